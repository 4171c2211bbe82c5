"""Jobs that go on with fewer pods while nodes are missing."""

import json
from datetime import timedelta
from typing import Any

import pytest

from finetune_operator.plan.lifecycle import plan_job
from finetune_operator.plan.timestamps import rfc3339
from finetune_operator.plan.world import Create, Plan
from plan.builders import (
    NOW,
    condition,
    deleted,
    failed_pod,
    follow,
    indexed_job,
    job,
    message,
    pod,
    reasons,
    snapshot_of,
    world,
)

TRAINING = {"batchSize": 24}
DISTRIBUTED = {"nodes": 4, "elastic": {"minNodes": 2, "waitSeconds": 60}}
UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/3 nodes are available: 3 Insufficient cpu.",
}


def placed(rank: int, number: int = 1, after: float = 1, **more: Any) -> dict[str, Any]:
    """A pod that found its node after so many seconds."""
    body = pod(rank, number, **more)
    when = {"type": "PodScheduled", "status": "True", "lastTransitionTime": rfc3339(NOW + timedelta(seconds=after))}
    body["status"]["conditions"] = [*body["status"].get("conditions", []), when]
    return body


def without_a_node(rank: int, number: int = 1) -> dict[str, Any]:
    body = pod(rank, number, phase="Pending")
    body["status"]["conditions"] = [UNSCHEDULABLE]
    return body


def elastic_job(distributed: dict[str, Any] = DISTRIBUTED, **changes: Any) -> dict[str, Any]:
    fresh = job(training=TRAINING, distributed=distributed, **changes)
    return follow(fresh, plan_job(world(fresh)))


def step(item: dict[str, Any], number: int, pods: list[dict[str, Any]] | None, after: float) -> Plan:
    jobs = [] if pods is None else [indexed_job(number)]
    kinds = ("Service", "ConfigMap") if jobs else ()
    parts = tuple({"kind": one, "metadata": {"name": f"tickets-{number}", "uid": one}} for one in kinds)
    return plan_job(world(item, jobs, pods or [], after, snapshot=snapshot_of(item), parts=parts))


def gang(plan: Plan) -> dict[str, Any]:
    """Sizes that the pods of a new attempt are told."""
    bodies = {write.body["kind"]: write.body for write in plan.writes if isinstance(write, Create)}
    spec = bodies["Job"]["spec"]
    env = {one["name"]: one.get("value") for one in spec["template"]["spec"]["containers"][0]["env"]}
    config = json.loads(bodies["ConfigMap"]["data"]["job.json"])
    return {
        "completions": spec["completions"],
        "parallelism": spec["parallelism"],
        "nodes": int(env["PET_NNODES"]),
        "config": config["distributed"],
    }


def shrunk(item: dict[str, Any], there: int) -> Plan:
    """What is done when so many of 4 pods have a node and the wait is over."""
    pods = [placed(rank) if rank < there else without_a_node(rank) for rank in range(4)]
    return step(item, 1, pods, after=61)


def test_an_attempt_asks_for_all_nodes_and_waits_for_them() -> None:
    item = elastic_job()
    assert (item["status"]["nodes"], item["status"]["attempts"][0]["nodes"]) == (4, 4)
    waiting = step(item, 1, [*(placed(rank) for rank in range(3)), without_a_node(3)], after=59)
    assert deleted(waiting) == []
    assert waiting.requeue_after == 1
    assert condition(waiting, "Running") == ("False", "Unschedulable")


def test_then_it_makes_way_for_a_smaller_one() -> None:
    item = elastic_job()
    plan = shrunk(item, there=3)
    assert deleted(plan) == ["Job/tickets-1", "Service/tickets-1"]
    assert condition(plan, "Running") == ("False", "Resized")
    assert "Resized" in reasons(plan)
    assert "not all of 4 pods found a node within 60 s" in message(plan, "Running")
    assert plan.status["restarts"] == {"total": 0, "byCause": {}}
    smaller = step(follow(item, plan), 1, None, after=62)
    size = {"completions": 3, "parallelism": 3, "nodes": 3, "config": {"engine": "Torchrun", "nodes": 3}}
    assert gang(smaller).items() >= {name: size[name] for name in ("completions", "parallelism", "nodes")}.items()
    assert gang(smaller)["config"].items() >= size["config"].items()
    assert "elastic" not in gang(smaller)["config"]
    assert [one["cause"] for one in smaller.status["attempts"]] == ["Resized", ""]
    assert (smaller.status["nodes"], smaller.status["attempts"][1]["nodes"]) == (3, 3)


def test_the_smaller_gang_runs_and_says_how_many_were_asked_for() -> None:
    item = elastic_job()
    item = follow(item, shrunk(item, there=3))
    item = follow(item, step(item, 1, None, after=62))
    plan = step(item, 2, [placed(rank, 2) for rank in range(3)], after=70)
    assert condition(plan, "Running") == ("True", "AttemptRunning")
    assert message(plan, "Running") == "3 of 3 pods run; 4 were asked for"


def test_after_a_failure_all_nodes_are_asked_for_again() -> None:
    item = elastic_job(failurePolicy={"backoffSeconds": 0})
    item = follow(item, shrunk(item, there=3))
    item = follow(item, step(item, 1, None, after=62))
    pods = [placed(rank, 2) for rank in range(3)]
    item = follow(item, step(item, 2, pods, after=70))
    item = follow(item, step(item, 2, [failed_pod(0, 1, "boom", 2), *pods[1:]], after=90))
    again = step(item, 2, None, after=101)
    assert gang(again)["nodes"] == 4
    assert again.status["nodes"] == 4


@pytest.mark.parametrize(("there", "size"), [(4, None), (2, 2), (1, None), (0, None)])
def test_no_smaller_than_asked_for(there: int, size: int | None) -> None:
    plan = shrunk(elastic_job(), there)
    assert plan.status["nodes"] == (size or 4)
    assert bool(deleted(plan)) is (size is not None)


def test_only_sizes_that_share_out_a_batch_evenly() -> None:
    """24 examples a step do not go over 5 pods."""
    item = elastic_job({"nodes": 6, "elastic": {"minNodes": 2, "waitSeconds": 60}})
    pods = [placed(rank) if rank < 5 else without_a_node(rank) for rank in range(6)]
    assert step(item, 1, pods, after=61).status["nodes"] == 4


def test_a_pod_that_pulls_its_image_has_its_node() -> None:
    pulling = placed(3, phase="Pending", waiting={"reason": "ImagePullBackOff", "message": "back-off"})
    plan = step(elastic_job(), 1, [*(placed(rank) for rank in range(3)), pulling], after=61)
    assert plan.status["nodes"] == 4


def test_pods_that_end_one_after_the_other_are_not_missing() -> None:
    item = elastic_job()
    item = follow(item, step(item, 1, [placed(rank) for rank in range(4)], after=5))
    ended = [placed(rank, phase="Succeeded") if rank else placed(rank) for rank in range(4)]
    plan = step(item, 1, ended, after=500)
    assert (plan.status["nodes"], deleted(plan)) == (4, [])


def test_without_elastic_a_gang_waits_for_ever() -> None:
    item = elastic_job({"nodes": 4})
    assert deleted(shrunk(item, there=3)) == []


@pytest.mark.parametrize(
    ("distributed", "told"),
    [
        ({"nodes": 2, "elastic": {"minNodes": 2}}, "elastic.minNodes must be less than nodes"),
        ({"nodes": 6, "elastic": {"minNodes": 5}}, "batchSize (24) must be a multiple of distributed.elastic.minNodes"),
    ],
)
def test_impossible_sizes_are_refused(distributed: dict[str, Any], told: str) -> None:
    plan = plan_job(world(job(training=TRAINING, distributed=distributed)))
    assert condition(plan, "Failed") == ("True", "InvalidSpec")
    assert told in message(plan, "Failed")


def test_schedulers_that_place_all_or_none_are_refused() -> None:
    queued = job(training=TRAINING, distributed=DISTRIBUTED, queueName="gpus")
    plan = plan_job(world(queued))
    assert "the scheduler Kueue places all pods of a gang or none" in message(plan, "Failed")
