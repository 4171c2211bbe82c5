"""The Job and its pods come by watches of their own: what one shows the other may not show yet."""

from typing import Any

import pytest

from finetune_operator.plan.lifecycle import plan_job
from finetune_operator.plan.timestamps import rfc3339
from finetune_operator.plan.world import Plan
from plan.builders import (
    NOW,
    condition,
    deleted,
    done_pod,
    failed_pod,
    follow,
    indexed_job,
    job,
    last_words,
    pod,
    snapshot_of,
    world,
)

RUNNING = [pod(0), pod(1)]


def running_job() -> dict[str, Any]:
    fresh = job()
    item = follow(fresh, plan_job(world(fresh)))
    return follow(item, step(item, RUNNING, 1))


def step(item: dict[str, Any], pods: list[dict[str, Any]], after: float, **over: str) -> Plan:
    gang = indexed_job(**over)
    for each in gang["status"]["conditions"]:
        each["lastTransitionTime"] = rfc3339(NOW)
    parts = tuple({"kind": one, "metadata": {"name": "tickets-1", "uid": one}} for one in ("Service", "ConfigMap"))
    return plan_job(world(item, [gang], pods, after, snapshot=snapshot_of(item), parts=parts))


@pytest.mark.parametrize("over", [{"Complete": "x: y"}, {"Failed": "PodFailurePolicy: y"}], ids=["complete", "failed"])
def test_a_job_that_is_over_waits_for_the_end_of_its_pods_to_be_seen(over: dict[str, str]) -> None:
    plan = step(running_job(), RUNNING, 2, **over)
    assert (plan.status["phase"], deleted(plan), plan.requeue_after) == ("Running", [], 28)


def test_then_the_result_counts() -> None:
    item = follow(running_job(), step(running_job(), RUNNING, 2, Complete="x: y"))
    plan = step(item, [done_pod(0), pod(1)], 3, Complete="x: y")
    assert condition(plan, "Succeeded") == ("True", "Succeeded")


def test_and_so_does_the_cause() -> None:
    wrong = failed_pod(1, 3, last_words("DataError", "no such column", rank=1))
    plan = step(running_job(), [pod(0), wrong], 3, Failed="PodFailurePolicy: y")
    assert plan.status["attempts"][-1]["cause"] == "BadData"


def test_not_for_ever() -> None:
    assert step(running_job(), RUNNING, 31, Complete="x: y").status["attempts"][-1]["cause"] == "PodLost"
    assert step(running_job(), RUNNING, 31, Failed="x: y").status["attempts"][-1]["cause"] == "Unknown"


def test_a_pod_on_a_lost_node_never_ends_and_is_not_waited_for() -> None:
    lost = [pod(0), pod(1, disruption="DeletionByTaintManager")]
    plan = step(running_job(), lost, 2, Failed="PodFailurePolicy: y")
    assert plan.status["attempts"][-1]["cause"] == "NodeLost"


FAILED = (
    "PodFailurePolicy: Container trainer for pod ml/tickets-1-0-abcde failed with exit code 3 matching FailJob rule"
)


def test_pods_that_nobody_has_shown_are_waited_for_but_not_long() -> None:
    item = follow(job(), plan_job(world(job())))
    plan = step(item, [], 2, Failed=FAILED)
    assert (plan.status["attempts"][-1]["cause"], plan.requeue_after) == ("", 8)
    wrong = failed_pod(1, 4, last_words("OutOfMemory", "CUDA out of memory", rank=1))
    assert step(item, [wrong], 3, Failed=FAILED).status["attempts"][-1]["cause"] == "GPUOutOfMemory"
    gone = step(item, [], 11, Failed=FAILED).status["attempts"][-1]
    assert (gone["cause"], gone["reason"]) == ("BadData", FAILED), "the Job controller has seen its exit code"


@pytest.mark.parametrize(
    ("code", "cause"),
    [(1, "Unknown"), (2, "UserError"), (4, "HostOutOfMemory"), (75, "Preempted"), (76, "Hang"), (137, "Unknown")],
)
def test_pods_that_are_gone_have_left_their_exit_code_with_the_job(code: int, cause: str) -> None:
    plan = step(running_job(), [], 2, Failed=FAILED.replace("code 3", f"code {code}"))
    assert plan.status["attempts"][-1]["cause"] == cause
    unknown = step(running_job(), [], 2, Failed="BackoffLimitExceeded: Job has reached the specified backoff limit")
    assert unknown.status["attempts"][-1]["cause"] == "Unknown"
