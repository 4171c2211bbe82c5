"""A result that rank 0 has told counts, whatever else ends otherwise beside it."""

from typing import Any

import pytest

from plan.builders import NOW, condition, deleted, done_pod, failed_pod, follow, indexed_job, pod
from plan.gangs import GANG, running, started, step

FAILED = "BackoffLimitExceeded: Job has reached the specified backoff limit"


def failed_by_sidecar(rank: int) -> dict[str, Any]:
    """The trainer is done; a log shipper was killed hours ago, and fails the pod now."""
    item = done_pod(rank)
    killed = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    item["status"]["phase"] = "Failed"
    item["status"]["containerStatuses"].insert(0, {"name": "fluent-bit", "state": killed})
    return item


@pytest.mark.parametrize(
    "beside",
    [
        failed_by_sidecar(1),
        failed_pod(1, 139, ""),
        failed_pod(1, 76, "hung as it let go of its GPU"),
        pod(1, deleting=NOW, disruption="EvictionByEvictionAPI"),
    ],
    ids=["a sidecar has failed", "crashed in its teardown", "hung in its teardown", "evicted"],
)
@pytest.mark.parametrize("seen", [{}, {"Failed": FAILED}], ids=["pods seen first", "Job seen first"])
def test_what_fails_beside_a_result(beside: dict[str, Any], seen: dict[str, str]) -> None:
    plan = step(running(), [indexed_job(**seen)], [failed_by_sidecar(0), beside])
    assert condition(plan, "Succeeded") == ("True", "Succeeded")
    assert plan.status["restarts"]["total"] == 0
    assert plan.status["metrics"] == {"f1": 0.91, "accuracy": 0.9, "loss": 0.3}
    assert deleted(plan) == []


@pytest.mark.parametrize("changes", [{"suspend": True}, {"activeDeadlineSeconds": 5}], ids=["suspend", "deadline"])
def test_what_is_asked_for_beside_a_result(changes: dict[str, Any]) -> None:
    item = running(suspend=False)
    item["spec"] |= changes
    assert step(item, [indexed_job()], [done_pod(0), pod(1)], 20).status["phase"] == "Succeeded"


def test_a_rank_that_is_at_its_end_has_its_time() -> None:
    assert step(running(), [indexed_job()], [done_pod(0), pod(1)], 20).status["phase"] == "Running"


def test_a_sidecar_that_fails_a_pod_without_a_result_is_the_cause() -> None:
    pods = [failed_pod(0, 1, "boom"), failed_by_sidecar(1)]
    item = follow(started(), step(started(), [indexed_job()], GANG))
    assert step(item, [indexed_job(Failed=FAILED)], pods, 30).status["phase"] == "Restarting"
