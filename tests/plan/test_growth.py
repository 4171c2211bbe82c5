"""Smaller gangs that grow again once there are nodes for the missing pods."""

from typing import Any

import pytest

from finetune_operator.plan.lifecycle import plan_job
from finetune_operator.plan.observation import NO_ATTEMPT
from finetune_operator.plan.world import Create, Plan
from plan.builders import (
    condition,
    created,
    deleted,
    done_pod,
    failed_pod,
    follow,
    indexed_job,
    message,
    reasons,
    world,
)
from plan.builders import snapshot_of as snapshot
from plan.test_elastic import elastic_job, gang, placed, shrunk, without_a_node

GROWING = {"nodes": 4, "elastic": {"minNodes": 2, "waitSeconds": 60, "growSeconds": 600}}
Body = dict[str, Any]


def step(item: Body, jobs: list[Body], pods: list[Body], after: float) -> Plan:
    parts = tuple({"kind": one, "metadata": {"name": "tickets-2", "uid": one}} for one in ("Service", "ConfigMap"))
    return plan_job(world(item, jobs, pods, after, snapshot=snapshot(item), parts=parts if jobs else ()))


def small_gang(there: int = 2, **changes: Any) -> Body:
    """A job whose second attempt has run on fewer than 4 pods since second 70."""
    item = elastic_job(changes.pop("distributed", GROWING), failurePolicy={"backoffSeconds": 0}, **changes)
    item = follow(item, shrunk(item, there))
    item = follow(item, step(item, [], [], after=62))
    item["status"]["progress"] = {"attempt": 2, "stage": "Training"}
    return follow(item, step(item, *running(there), after=70))


def running(there: int = 2) -> tuple[list[Body], list[Body]]:
    return [indexed_job(2)], [placed(rank, 2) for rank in range(there)]


def with_room(pods: list[Body], there: int = 2, **conditions: str) -> tuple[list[Body], list[Body]]:
    jobs, gang_pods = running(there)
    return [*jobs, indexed_job(NO_ATTEMPT, **conditions)], [*gang_pods, *pods]


def asking(there: int = 2, **changes: Any) -> Body:
    item = small_gang(there, **changes)
    return follow(item, step(item, *running(there), after=671))


def test_a_smaller_gang_asks_for_room_once_it_has_trained_for_a_while() -> None:
    item = small_gang()
    early = step(item, *running(), after=300)
    assert (created(early), early.requeue_after) == ([], 370)
    plan = step(item, *running(), after=671)
    assert created(plan) == ["Job/tickets-0"]
    assert condition(plan, "Growing") == ("True", "AwaitingRoom")
    assert condition(plan, "Running") == ("True", "AttemptRunning")


def test_the_pods_that_hold_room_are_placed_like_the_gangs_and_do_nothing() -> None:
    selector = {"spec": {"nodeSelector": {"gpu": "h100"}, "initContainers": [{"name": "warm", "image": "any"}]}}
    limits = {"limits": {"nvidia.com/gpu": 8}}
    credentials = {"secretName": "storage"}
    item = small_gang(podTemplate=selector, resources=limits, credentials=credentials)
    plan = step(item, *running(), after=671)
    (room,) = [write.body for write in plan.writes if isinstance(write, Create)]
    assert (room["spec"]["completions"], room["spec"]["parallelism"]) == (2, 2)
    assert room["metadata"]["ownerReferences"][0]["kind"] == "FineTuneJob"
    pod = room["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"gpu": "h100"}
    assert "initContainers" not in pod
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 8}
    assert container["command"] == ["sleep", "infinity"]
    assert not container.keys() & {"env", "envFrom", "volumeMounts"}


def test_once_all_of_them_run_the_gang_makes_way_for_a_whole_one() -> None:
    item = asking()
    plan = step(item, *with_room([placed(0, NO_ATTEMPT), placed(1, NO_ATTEMPT)]), after=700)
    assert deleted(plan) == ["Job/tickets-2", "Service/tickets-2", "ConfigMap/tickets-2"]
    assert plan.status["attempts"][-1]["cause"] == "Resized"
    assert "2 more pods found nodes: the next attempt has 4" in message(plan, "Running")
    assert plan.status["restarts"] == {"total": 0, "byCause": {}}
    item = follow(item, plan)
    room = [indexed_job(NO_ATTEMPT)], [placed(0, NO_ATTEMPT), placed(1, NO_ATTEMPT)]
    still = step(item, [*running()[0], *room[0]], [*running()[1], *room[1]], after=705)
    assert "Job/tickets-0" not in deleted(still)
    begun = step(item, *room, after=710)
    assert gang(begun)["nodes"] == 4
    assert deleted(begun)[-1] == "Job/tickets-0"
    assert condition(begun, "Growing") == ("False", "RoomReleased")


def test_the_gang_trains_on_while_they_wait() -> None:
    item = asking()
    waits = without_a_node(1, NO_ATTEMPT)
    for pods in ([], [without_a_node(0, NO_ATTEMPT), waits], [placed(0, NO_ATTEMPT, after=680), waits]):
        plan = step(item, *with_room(pods), after=739)
        assert deleted(plan) == []
        assert plan.status["phase"] == "Running"


def test_after_waiting_for_the_rest_the_gang_grows_by_what_there_is() -> None:
    plan = step(asking(), *with_room([placed(0, NO_ATTEMPT, after=680), without_a_node(1, NO_ATTEMPT)]), after=741)
    assert plan.status["nodes"] == 3
    assert "RoomFound" in reasons(plan)


def test_nodes_that_make_no_larger_gang_are_given_back_and_sought_later() -> None:
    """24 examples a step do not go over 5 pods."""
    six = {"nodes": 6, "elastic": {"minNodes": 4, "waitSeconds": 60, "growSeconds": 600}}
    item = elastic_job(six)
    pods = [placed(rank) if rank < 4 else without_a_node(rank) for rank in range(6)]
    item = follow(item, step(item, [indexed_job(1)], pods, after=61))
    item = follow(item, step(item, [], [], after=62))
    item["status"]["progress"] = {"attempt": 2, "stage": "Training"}
    item = follow(item, step(item, *running(4), after=70))
    item = follow(item, step(item, *running(4), after=671))
    plan = step(item, *with_room([placed(0, NO_ATTEMPT, after=680), without_a_node(1, NO_ATTEMPT)], there=4), after=741)
    assert deleted(plan) == ["Job/tickets-0"]
    assert condition(plan, "Growing") == ("False", "RoomReleased")
    item = follow(item, plan)
    assert created(step(item, *running(4), after=1340)) == []
    assert created(step(item, *running(4), after=1342)) == ["Job/tickets-0"]


def test_pods_that_were_evicted_while_they_held_room_are_sought_anew() -> None:
    item = asking()
    plan = step(item, *with_room([], Failed="BackoffLimitExceeded: pod evicted"), after=700)
    assert deleted(plan) == ["Job/tickets-0"]
    assert "pod evicted" in message(plan, "Growing")


@pytest.mark.parametrize(
    "ends",
    [
        {"pods": [failed_pod(0, 1, "boom", 2), placed(1, 2)]},
        {"pods": [done_pod(0, 2), done_pod(1, 2)], "Complete": "CompletionsReached: all pods"},
        {"pods": [placed(0, 2), placed(1, 2)], "suspend": True},
    ],
    ids=["failed", "succeeded", "suspended"],
)
def test_room_is_given_back_when_the_gang_ends(ends: dict[str, Any]) -> None:
    item, pods = asking(), ends.pop("pods")
    if ends.pop("suspend", False):
        item["spec"]["suspend"] = True
    jobs = [indexed_job(2, **ends), indexed_job(NO_ATTEMPT)]
    plan = step(item, jobs, [*pods, placed(0, NO_ATTEMPT), without_a_node(1, NO_ATTEMPT)], after=690)
    assert "Job/tickets-0" in deleted(plan)
    assert condition(plan, "Growing") == ("False", "RoomReleased")


def test_room_is_given_back_when_the_job_is_suspended_before_the_larger_gang_begins() -> None:
    item = asking()
    room = [placed(0, NO_ATTEMPT), placed(1, NO_ATTEMPT)]
    item = follow(item, step(item, *with_room(room), after=700))
    item["spec"]["suspend"] = True
    plan = step(item, [indexed_job(NO_ATTEMPT)], room, after=720)
    assert deleted(plan) == ["Job/tickets-0"]
    assert condition(plan, "Growing") == ("False", "RoomReleased")
    assert condition(plan, "Suspended") == ("True", "Suspended")


@pytest.mark.parametrize(("attempt", "stage"), [(1, "Training"), (2, "Preparing"), (2, "Evaluating"), (2, "Exporting")])
def test_only_a_gang_that_trains_makes_way(attempt: int, stage: str) -> None:
    item = asking()
    item["status"]["progress"] = {"attempt": attempt, "stage": stage}
    plan = step(item, *with_room([placed(0, NO_ATTEMPT), placed(1, NO_ATTEMPT)]), after=700)
    assert deleted(plan) == []


def test_without_grow_seconds_it_stays_small() -> None:
    item = small_gang(distributed={"nodes": 4, "elastic": {"minNodes": 2, "waitSeconds": 60}})
    assert created(step(item, *running(), after=100_000)) == []
