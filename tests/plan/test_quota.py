"""Quotas warn, and never refuse."""

from typing import Any

import pytest

from finetune_operator.plan.lifecycle import plan_job
from plan.builders import condition, created, follow, indexed_job, job, message, snapshot_of, world

GPUS = {"limits": {"nvidia.com/gpu": 2, "memory": "16Gi"}}


def quota(hard: dict[str, Any], used: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "team", "namespace": "ml"},
        "spec": spec,
        "status": {"hard": hard, "used": used or {}},
    }


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            quota({"requests.nvidia.com/gpu": "8"}, {"requests.nvidia.com/gpu": "6"}),
            "spec.resources: the 2 pods need 4 of requests.nvidia.com/gpu; ResourceQuota 'team' has 2 of 8 left: "
            "it waits",
        ),
        (
            quota({"requests.nvidia.com/gpu": 3}),
            "spec.resources: the 2 pods need 4 of requests.nvidia.com/gpu; ResourceQuota 'team' allows 3 in all: "
            "it can never start",
        ),
        (quota({"pods": "1"}), "spec.distributed.nodes: the 2 pods need 2 of pods; ResourceQuota 'team' allows 1"),
        (quota({"memory": "16Gi"}), "need 34359738368 of memory"),
        (quota({"limits.memory": "31Gi"}), "need 34359738368 of limits.memory"),
        (quota({"limits.cpu": "100"}), "ResourceQuota 'team' wants every pod to say limits.cpu; set it"),
        (quota({"cpu": "100"}), "ResourceQuota 'team' wants every pod to say requests.cpu; set it"),
    ],
)
def test_a_gang_that_a_quota_has_no_room_for_is_warned_and_tried_all_the_same(given: dict[str, Any], says: str) -> None:
    plan = plan_job(world(job(resources=GPUS), quotas=(given,)))
    assert says in message(plan, "Validated")
    assert condition(plan, "Validated") == ("True", "Valid")
    assert created(plan)


def test_a_quota_that_was_just_made_counts_as_it_is_written() -> None:
    new = {"metadata": {"name": "team", "namespace": "ml"}, "spec": {"hard": {"pods": "1"}}}
    assert "allows 1 in all" in message(plan_job(world(job(), quotas=(new,))), "Validated")


def test_the_warning_stays_when_the_job_has_started() -> None:
    item = job()
    first = plan_job(world(item, quotas=(quota({"pods": "1"}),)))
    later = plan_job(world(follow(item, first), [indexed_job()], snapshot=snapshot_of(item)))
    assert message(later, "Validated") == message(first, "Validated") != ""


@pytest.mark.parametrize(
    "given",
    [
        quota({"requests.nvidia.com/gpu": "8"}, {"requests.nvidia.com/gpu": "4"}),
        quota({"memory": "32Gi", "requests.memory": "32Gi", "pods": 2}),
        quota({"configmaps": "5", "requests.storage": "1Gi"}),
        quota({"pods": "1"}, scopes=["BestEffort"]),
        quota({"pods": "1"}, scopeSelector={"matchExpressions": []}),
    ],
    ids=["room is left", "exactly enough", "of other things", "of some pods", "of selected pods"],
)
def test_a_quota_with_room_says_nothing(given: dict[str, Any]) -> None:
    plan = plan_job(world(job(resources=GPUS), quotas=(given,)))
    assert message(plan, "Validated") == ""


def test_the_runtimes_resources_count_where_the_job_has_none() -> None:
    runtime = {"spec": {"resources": GPUS}}
    plan = plan_job(
        world(job(runtimeRef={"name": "r"}), runtime=runtime, quotas=(quota({"requests.nvidia.com/gpu": 3}),))
    )
    assert "allows 3 in all" in message(plan, "Validated")
