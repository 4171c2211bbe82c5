"""Starts and ends that are not as usual: an operator that was away, objects that are gone, sidecars that go on."""

import pytest

from finetune_operator.plan.deletion import is_held
from finetune_operator.plan.lifecycle import cannot_create, plan_job
from plan.builders import condition, created, deleted, done_pod, follow, indexed_job, job, pod, reasons, world
from plan.gangs import GANG, objects_of, running, started, step

# The ConfigMap with what the job started with


@pytest.mark.parametrize(
    ("changes", "told"), [({}, "Valid"), ({"seed": 7}, "SnapshotLost")], ids=["unchanged", "edited since"]
)
def test_a_snapshot_that_is_lost_is_told_of_when_nothing_else_says_the_same(changes: dict, told: str) -> None:
    item = follow(started(), step(started(), [indexed_job()], GANG))
    item["spec"] = item["spec"] | ({"training": changes} if changes else {})
    plan = step(item, [indexed_job()], GANG, after=20, snapshot=None)
    assert condition(plan, "Validated") == ("True", told)
    assert plan.status["phase"] == "Running"
    assert reasons(plan) == ([told] if changes else [])


# Pods that end before the others start, or the Job


def test_a_pod_that_has_ended_well_did_start() -> None:
    """The operator was away while all pods ran."""
    item = started(startDeadlineSeconds=300)
    plan = step(item, [indexed_job()], [pod(0), done_pod(1)], after=400)
    assert (plan.status["phase"], condition(plan, "Running")) == ("Running", ("True", "AttemptRunning"))


def with_sidecar(rank: int) -> dict:
    """The trainer is done, and something that was injected goes on."""
    item = done_pod(rank)
    item["status"]["phase"] = "Running"
    item["status"]["containerStatuses"].append({"name": "istio-proxy", "state": {"running": {}}})
    return item


def test_a_sidecar_that_outlives_the_trainers_does_not_keep_the_job() -> None:
    item = follow(started(), step(started(), [indexed_job()], GANG))
    pods = [with_sidecar(0), with_sidecar(1)]
    waiting = step(item, [indexed_job()], pods, after=20)
    assert (waiting.status["phase"], waiting.requeue_after) == ("Running", 40)
    assert step(item, [indexed_job()], [pod(0), with_sidecar(1)], after=3600).status["phase"] == "Running"
    plan = step(item, [indexed_job()], pods, after=60)
    assert condition(plan, "Succeeded") == ("True", "Succeeded")
    assert deleted(step(follow(item, plan), [indexed_job()], pods, after=61)) == ["Job/tickets-1"]


def test_what_keeps_pods_apart_is_there_before_them() -> None:
    plan = plan_job(world(job(), has_account=False))
    kinds = [write.body["kind"] for write in plan.writes if hasattr(write, "body")]
    assert kinds == ["ServiceAccount", "NetworkPolicy", "ConfigMap", "Service", "Job"]


def test_a_job_that_is_resumed_starts_at_once_also_right_after_its_suspension() -> None:
    item = running()
    item["spec"]["suspend"] = True
    item = follow(item, step(item, [indexed_job()], GANG, after=20))
    item = follow(item, step(item, [], [], after=21))
    item["spec"]["suspend"] = False
    assert created(step(item, [], [], after=22)) == objects_of(2)


@pytest.mark.parametrize(
    ("finalizers", "stopped"),
    [
        ([], False),
        (["foregroundDeletion"], False),
        (["orphan"], False),
        (["example.com/audit"], True),
        (["example.com/audit", "foregroundDeletion"], True),
        (["example.com/audit", "orphan"], False),
    ],
)
def test_a_job_in_its_deletion_stops_its_gang_where_nobody_else_does_and_no_orphans(
    finalizers: list[str], stopped: bool
) -> None:
    assert is_held({"metadata": {"finalizers": finalizers}}) == stopped


def test_a_job_that_cannot_be_made_in_time_is_given_up_too() -> None:
    """A quota of Jobs, a webhook that denies it: the wait is part of the start."""
    item = started(startDeadlineSeconds=60)
    refused = cannot_create(world(item, after=1), "Job", "Job tickets-1: exceeded quota: count/jobs.batch")
    item = follow(item, refused)
    again = step(item, after=50)
    assert (created(again), again.requeue_after) == (objects_of(1), 10)
    plan = step(item, after=60)
    assert (plan.status["phase"], plan.status["restarts"]["byCause"]) == ("Restarting", {"StartDeadlineExceeded": 1})
    assert "exceeded quota" in plan.status["attempts"][0]["reason"]
    assert plan.unseen, "the Job may have been made meanwhile: the live ones tell"
