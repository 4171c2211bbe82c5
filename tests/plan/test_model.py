"""Any order of failures, deletions, suspensions and operator crashes: what must always hold."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from finetune_operator.plan.attempt import SNAPSHOT_KEY, Snapshot
from finetune_operator.plan.causes import class_of
from finetune_operator.plan.lifecycle import plan_job
from finetune_operator.plan.observation import observe_attempts
from finetune_operator.plan.world import Apply, Create, World, Write
from plan.builders import NOW, SETTINGS, done_pod, failed_pod, follow, indexed_job, job, pod

RANKS = st.integers(0, 1)
FINISHED = ("Succeeded", "Failed")


class JobLife(RuleBasedStateMachine):
    """A cluster in a few dictionaries; the operator may stop after any write of a plan."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.job: dict[str, Any] = {}
        self.jobs: dict[int, dict[str, Any]] = {}
        self.pods: dict[tuple[int, int], dict[str, Any]] = {}
        self.parts: dict[tuple[str, str], dict[str, Any]] = {}
        self.created: list[int] = []
        self.ended = ""
        self.created_by_then = 0

    @initialize(restarts=st.integers(0, 3), deadline=st.sampled_from([None, 500]))
    def apply(self, restarts: int, deadline: int | None) -> None:
        budget = {"maxRestarts": {"infrastructure": restarts, "preemption": restarts}, "backoffSeconds": 1}
        self.job = job(failurePolicy=budget, activeDeadlineSeconds=deadline)

    # The operator

    @rule(crash_after=st.integers(0, 6))
    def reconcile(self, crash_after: int) -> None:
        plan = plan_job(self.world())
        self.job = follow(self.job, plan)
        for write in plan.writes[:crash_after]:
            self.carry_out(write)

    @rule(rounds=st.integers(1, 6))
    def operate(self, rounds: int) -> None:
        """Operator and cluster take turns, undisturbed."""
        for _ in range(rounds):
            self.reconcile(crash_after=99)
            self.bring_up_pods()
            self.control_jobs()
            self.collect_garbage()
            self.pass_time(seconds=15)

    def world(self) -> World:
        snapshots = [part["data"][SNAPSHOT_KEY] for (kind, _), part in self.parts.items() if kind == "ConfigMap"]
        return World(
            job=self.job,
            now=self.now,
            settings=SETTINGS,
            attempts=observe_attempts(list(self.jobs.values()), list(self.pods.values())),
            parts=tuple(self.parts.values()),
            snapshot=Snapshot.load(snapshots[0]) if snapshots else None,
        )

    def carry_out(self, write: Write) -> None:
        if isinstance(write, (Create, Apply)):
            self.create(write.body)
        elif write.kind == "Job":
            self.jobs[int(write.name.rpartition("-")[2])]["metadata"]["deletionTimestamp"] = "2026-11-22T09:00:00Z"
        elif write.kind == "Pod":
            self.pods = {key: one for key, one in self.pods.items() if one["metadata"]["uid"] != write.uid}
        else:
            self.parts.pop((write.kind, write.name))

    def create(self, body: dict[str, Any]) -> None:
        name, kind = body["metadata"]["name"], body["kind"]
        if kind != "Job":
            self.parts[kind, name] = {**body, "metadata": {**body["metadata"], "uid": f"{kind}-{name}"}}
            return
        number = int(name.rpartition("-")[2])
        assert not self.pods, "a gang is made while pods of another are left"
        assert self.job["status"]["phase"] not in FINISHED, "a finished job runs again"
        assert not self.job["spec"].get("suspend"), "a suspended job starts"
        self.jobs[number] = indexed_job(number)
        self.created.append(number)

    # The cluster

    @rule()
    def bring_up_pods(self) -> None:
        for number, batch_job in self.jobs.items():
            if "deletionTimestamp" not in batch_job["metadata"] and not batch_job["status"]["conditions"]:
                for rank in (0, 1):
                    self.pods.setdefault((number, rank), pod(rank, number))

    @precondition(lambda self: self.pods)
    @rule(rank=RANKS, code=st.sampled_from([1, 3, 75, 137]))
    def fail_pod(self, rank: int, code: int) -> None:
        for number, which in list(self.pods):
            if which == rank:
                self.pods[number, rank] = failed_pod(rank, code, number=number, at=self.now)

    @precondition(lambda self: self.pods)
    @rule()
    def succeed(self) -> None:
        for (number, rank), one in list(self.pods.items()):
            if one["status"]["phase"] == "Running":
                self.pods[number, rank] = done_pod(rank, number)

    @rule()
    def control_jobs(self) -> None:
        """A failed pod fails the Job and stops the others; two good ones complete it."""
        for number, batch_job in self.jobs.items():
            own = {key: one for key, one in self.pods.items() if key[0] == number}
            phases = [one["status"]["phase"] for one in own.values()]
            uid, deleting = batch_job["metadata"]["uid"], batch_job["metadata"].get("deletionTimestamp")
            if "Failed" in phases:
                self.jobs[number] = indexed_job(number, Failed="PodFailurePolicy: x")
                self.pods = {k: v for k, v in self.pods.items() if k not in own or v["status"]["phase"] == "Failed"}
            elif phases == ["Succeeded", "Succeeded"]:
                self.jobs[number] = indexed_job(number, Complete="CompletionsReached: x")
            self.jobs[number]["metadata"]["uid"] = uid
            if deleting:
                self.jobs[number]["metadata"]["deletionTimestamp"] = deleting

    @rule()
    def collect_garbage(self) -> None:
        """Foreground: the pods first, then their Job."""
        for number, batch_job in list(self.jobs.items()):
            if "deletionTimestamp" in batch_job["metadata"]:
                own = [key for key in self.pods if key[0] == number]
                if own:
                    del self.pods[own[0]]
                else:
                    del self.jobs[number]

    # People

    @rule(rank=RANKS)
    def delete_pod(self, rank: int) -> None:
        for key in [key for key in self.pods if key[1] == rank]:
            self.pods[key] = pod(rank, key[0], deleting=self.now + timedelta(seconds=30))

    @precondition(lambda self: self.jobs)
    @rule()
    def delete_job(self) -> None:
        for batch_job in self.jobs.values():
            batch_job["metadata"]["deletionTimestamp"] = "2026-11-22T09:00:00Z"

    @precondition(lambda self: self.jobs)
    @rule()
    def delete_job_in_the_background(self) -> None:
        """Its pods are still there for a while."""
        self.jobs.clear()

    @rule()
    def collect_orphans(self) -> None:
        for key in [key for key in self.pods if key[0] not in self.jobs]:
            del self.pods[key]

    @rule(suspend=st.booleans())
    def suspend(self, suspend: bool) -> None:
        metadata = {**self.job["metadata"], "generation": self.job["metadata"]["generation"] + 1}
        self.job = {**self.job, "metadata": metadata, "spec": {**self.job["spec"], "suspend": suspend}}

    @rule(seconds=st.sampled_from([1, 15, 200]))
    def pass_time(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    # What must hold

    @invariant()
    def one_gang_at_a_time(self) -> None:
        assert len({number for number, _ in self.pods}) <= 1

    @invariant()
    def attempts_count_up(self) -> None:
        assert self.created == sorted(self.created)

    @invariant()
    def a_finished_job_never_runs_again(self) -> None:
        phase = (self.job.get("status") or {}).get("phase", "")
        if not self.ended and phase in FINISHED:
            self.ended, self.created_by_then = phase, len(self.created)
        if self.ended:
            assert (phase, len(self.created)) == (self.ended, self.created_by_then)

    @invariant()
    def restarts_stay_within_their_budgets(self) -> None:
        restarts = (self.job.get("status") or {}).get("restarts") or {"total": 0, "byCause": {}}
        budget = {"user": 0, "outOfMemory": 1} | self.job.get("spec", {}).get("failurePolicy", {}).get(
            "maxRestarts", {}
        )
        assert all(count <= budget[class_of(cause)] for cause, count in restarts["byCause"].items())
        assert restarts["total"] == sum(restarts["byCause"].values())

    @invariant()
    def a_quiet_world_comes_to_rest(self) -> None:
        """With nothing happening in between, the plans end in one that changes nothing, within a few steps."""
        world = self.world() if self.job else None
        for _ in range(4):
            if world is None:
                return
            plan = plan_job(world)
            if plan.writes or plan.status == world.job.get("status"):
                return
            world = replace(world, job=follow(world.job, plan))
        raise AssertionError(f"restless: {plan.status}")


TestJobLife = JobLife.TestCase
TestJobLife.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, derandomize=True)
