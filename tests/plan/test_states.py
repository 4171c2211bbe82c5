"""The planner in any sequence of events: crashes between two writes, stale caches, clocks that jump.

The ledger of the chaos tests judges every write; at the end, with all troubles over, the job comes to its end.
"""

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from chaos.ledger import Ledger
from finetune_local.apiserver.revision_store import RevisionStore
from finetune_operator.controllers.carry_out import own_status
from finetune_operator.plan.lifecycle import plan_job
from finetune_operator.plan.status_draft import REPORTED
from finetune_operator.plan.timestamps import rfc3339
from finetune_operator.plan.world import World
from plan import builders
from plan.simulated_cluster import SimulatedCluster

BUDGET = {"user": 1, "outOfMemory": 1, "infrastructure": 2, "preemption": 2}
FAILURES = [(1, "Crash"), (2, "ConfigurationError"), (3, "DataError"), (4, "OutOfMemory"), (75, "Preempted"), (137, "")]
ENDS_WITHIN = 200
"""Rounds: restarts with their backoff, stuck pods, settling."""


class PlannerStates(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.store = RevisionStore()
        self.ledger = Ledger(self.store)
        policy = {"maxRestarts": BUDGET, "backoffSeconds": 5}
        job = builders.job(failurePolicy=policy, publish={"modelName": "tickets"}, suspend=False)
        self.cluster = SimulatedCluster(self.store, job)
        self.view = self.cluster.world()
        self.last_write = self.seen = self.store.revision
        self.step = 0
        self.wait: float | None = None

    # The operator

    @rule()
    def look(self) -> None:
        """Its caches catch up."""
        self.view, self.seen = self.cluster.world(), self.store.revision

    @rule(survives=st.sampled_from([0, 1, 2, 99]))
    def reconcile(self, survives: int) -> None:
        """From what it saw last, however old; it may die after so many writes."""
        if self.seen < self.last_write:
            return  # it waits for the caches to show its own last write
        self._carry_out(replace(self.view, now=self.cluster.now), survives)

    def _carry_out(self, view: World, survives: int) -> None:
        plan = plan_job(view)
        self.wait = plan.requeue_after
        live = self.cluster.job
        changed = own_status(view.job) != plan.status
        current = live["metadata"]["resourceVersion"] == view.job["metadata"]["resourceVersion"]
        same = (own_status(live), live["spec"]) == (own_status(view.job), view.job["spec"])
        if survives == 0 or not (current if changed else same):
            return  # refused by the compare-and-swap, or by the look at the live job
        if changed:
            reported = {k: v for k, v in (live.get("status") or {}).items() if k in REPORTED}
            self.cluster.put("FineTuneJob", {**live, "status": {**plan.status, **reported}})
        for write in plan.writes[: survives - 1]:
            self.cluster.carry_out(write)
        if changed or plan.writes:
            self.last_write = self.store.revision

    # Cluster, nodes, people

    @rule()
    def settle(self) -> None:
        self.cluster.settle()

    @rule()
    def pods_run(self) -> None:
        self.cluster.run_all()

    @rule()
    def pods_succeed(self) -> None:
        self.cluster.succeed_all()

    @precondition(lambda self: self.cluster.living())
    @rule(data=st.data(), failure=st.sampled_from(FAILURES))
    def pod_fails(self, data: st.DataObject, failure: tuple[int, str]) -> None:
        self.cluster.fail(data.draw(st.sampled_from(self.cluster.living())), *failure)

    @precondition(lambda self: self.cluster.living())
    @rule(data=st.data())
    def pod_is_evicted(self, data: st.DataObject) -> None:
        pod = data.draw(st.sampled_from(self.cluster.living()))
        self.cluster.fail(pod, 143, "", disruption="EvictionByEvictionAPI")

    @precondition(lambda self: self.cluster.living())
    @rule(data=st.data())
    def pod_vanishes(self, data: st.DataObject) -> None:
        self.cluster.remove("Pod", data.draw(st.sampled_from(self.cluster.living())))

    @precondition(lambda self: self.cluster.all("Pod"))
    @rule(data=st.data())
    def node_is_lost(self, data: st.DataObject) -> None:
        """It says no more of the pod; whoever asks that to end gets no answer."""
        self.cluster.lost.add(data.draw(st.sampled_from(self.cluster.all("Pod")))["metadata"]["name"])

    @precondition(lambda self: self.cluster.all("Job"))
    @rule(data=st.data())
    def somebody_deletes(self, data: st.DataObject) -> None:
        kind = data.draw(st.sampled_from(["Service", "Job"]))
        for item in self.cluster.all(kind)[:1]:
            self.cluster.remove(kind, item)

    @precondition(lambda self: not self.cluster.finished and self.cluster.job.get("status", {}).get("attempt"))
    @rule(more=st.integers(1, 50))
    def checkpoint_is_saved(self, more: int) -> None:
        self.step += more
        job = self.cluster.job
        checkpoint = {"step": self.step, "uri": f"s3://c/{self.step}", "verifiedAt": rfc3339(self.cluster.now)}
        self.cluster.put("FineTuneJob", {**job, "status": {**job["status"], "lastCheckpoint": checkpoint}})

    @rule(suspend=st.booleans())
    def suspend(self, suspend: bool) -> None:
        job = self.cluster.job
        if job["spec"]["suspend"] != suspend:
            job["spec"]["suspend"] = suspend
            job["metadata"]["generation"] += 1
            self.cluster.put("FineTuneJob", job)

    @rule(seconds=st.sampled_from([1, 5, 30, 300, 3600, -5, -3600]))
    def clock(self, seconds: int) -> None:
        """Also backwards: another leader's clock may be behind."""
        self.cluster.advance(seconds)

    # What always holds

    @invariant()
    def nothing_forbidden(self) -> None:
        assert self.ledger.violations == []

    def teardown(self) -> None:
        """No more troubles: the job ends, whatever state it was left in, and then nothing moves any more."""
        self.suspend(False)
        self.cluster.advance(7200)
        for _ in range(ENDS_WITHIN):
            if self.cluster.finished:
                break
            self._peaceful_round()
        left = [(pod["metadata"], pod["status"]["phase"]) for pod in self.cluster.all("Pod")]
        assert self.cluster.finished, (self.cluster.job["status"], left)
        for _ in range(3):
            self._peaceful_round()
        revision = self.store.revision
        self.look()
        self.reconcile(99)
        assert self.store.revision == revision, "a finished job is at rest"
        self.nothing_forbidden()

    def _peaceful_round(self) -> None:
        self.look()
        self.last_write = 0
        self.reconcile(99)
        self.cluster.settle()
        self.cluster.give_up_lost_nodes()
        self.cluster.run_all()
        self.cluster.succeed_all()
        self.cluster.settle()
        self.cluster.advance(self.wait or 1)


PlannerStates.TestCase.settings = settings(max_examples=20, stateful_step_count=40, deadline=None)
test_the_planner_keeps_its_promises = PlannerStates.TestCase
