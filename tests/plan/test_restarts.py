"""When the next gang starts, from where, and how often."""

import math

import pytest

from finetune_api.failure_policy import FailurePolicy
from finetune_operator.plan.budgets import backoff_seconds
from finetune_operator.plan.world import Plan
from plan.builders import (
    NOW,
    UID,
    condition,
    created,
    deleted,
    failed_pod,
    follow,
    indexed_job,
    message,
    pod,
    reasons,
    snapshot_of,
)
from plan.gangs import GANG, objects_of, parts, restarting, running, started, step


def test_the_next_gang_waits_until_every_pod_is_gone() -> None:
    item = restarting()
    deleting = indexed_job()
    deleting["metadata"]["deletionTimestamp"] = "2026-11-22T09:00:10Z"
    assert step(item, [deleting], [GANG[0]], after=60, parts=()).writes == ()
    assert step(item, [], [GANG[0]], after=60).writes == ()
    assert created(step(item, [], [], after=60)) == objects_of(2)


def test_a_delete_that_was_not_carried_out_is_repeated() -> None:
    item = restarting()
    plan = step(item, [indexed_job()], GANG, after=11, parts=parts(1))
    assert deleted(plan) == ["Job/tickets-1", "Service/tickets-1"]
    assert plan.status == item["status"]


def test_a_clock_that_is_set_back_holds_up_no_restart() -> None:
    item = restarting()
    assert created(step(item, [], [], after=-86_400)) == objects_of(2)
    slightly = step(item, [], [], after=8)  # another replica, two seconds behind the one that wrote the end
    assert slightly.writes == ()
    assert slightly.requeue_after == pytest.approx(backoff_seconds(FailurePolicy(), 1, UID, 1) + 2)


def test_a_clock_that_is_set_back_does_not_keep_a_failed_gang_unsettled() -> None:
    assert step(running(), [indexed_job()], [failed_pod(0, 1, "x"), pod(1)], after=-86_400).status["attempts"][0][
        "endedAt"
    ]


def test_the_next_gang_waits_for_the_backoff() -> None:
    plan = step(restarting(), [], [], after=12)
    assert plan.writes == ()
    assert plan.requeue_after == pytest.approx(backoff_seconds(FailurePolicy(), 1, UID, 1) - 2)


def test_a_restart_goes_on_from_the_newest_verified_checkpoint() -> None:
    item = restarting()
    item["status"]["lastCheckpoint"] = {"step": 400, "uri": "s3://c/400", "verifiedAt": "2026-11-22T09:00:05Z"}
    plan = step(item, [], [], after=60)
    assert plan.status["attempt"] == 2
    assert plan.status["attempts"][-1] == {
        "number": 2,
        "nodes": 2,
        "cause": "",
        "reason": "",
        "plannedAt": "2026-11-22T09:01:00Z",
        "resumedFromStep": 400,
    }
    assert "step 400" in plan.events[0].note
    assert "lastCheckpoint" not in plan.status


def test_a_restart_uses_the_job_and_the_runtime_as_they_were() -> None:
    item = restarting(runtimeRef={"name": "gpu"})
    snapshot = snapshot_of(item, {"trainerImage": "old:1"})
    edited = {**item, "spec": {**item["spec"], "training": {"learningRate": 0.5}}}
    plan = step(edited, [], [], after=60, snapshot=snapshot, runtime={"spec": {"trainerImage": "new:2"}})
    config_map, _, batch_job = (write.body for write in plan.writes if write.body["kind"] != "NetworkPolicy")
    assert batch_job["spec"]["template"]["spec"]["containers"][0]["image"] == "old:1"
    assert "0.5" not in config_map["data"]["job.json"]
    assert condition(plan, "Validated") == ("True", "SpecChangeIgnored")


def crash(item: dict, number: int, after: float) -> tuple[dict, Plan]:
    item = follow(item, step(item, [indexed_job(number)], [pod(0, number), pod(1, number)], after=after))
    failed = indexed_job(number, Failed="PodFailurePolicy: x")
    plan = step(item, [failed], [failed_pod(0, 1, "x", number)], after=after + 1)
    return follow(item, plan), plan


def test_the_budget_of_a_class_runs_out() -> None:
    item, number, after = started(), 1, 10.0
    waits = []
    while True:
        item, plan = crash(item, number, after)
        if plan.status["phase"] == "Failed":
            break
        wait = step(item, [], [], after=after + 1).requeue_after
        waits.append(wait)
        after += 1 + math.ceil(wait or 0)
        plan = step(item, [], [], after=after)
        number += 1
        assert created(plan) == objects_of(number)
        item = follow(item, plan)
    assert waits == [backoff_seconds(FailurePolicy(), n, UID, n) for n in (1, 2, 3)]
    assert number == 4
    assert plan.status["restarts"] == {"total": 3, "byCause": {"Crash": 3}}
    assert condition(plan, "Failed") == ("True", "RestartsExhausted")
    assert "spec.failurePolicy.maxRestarts.infrastructure" in message(plan, "Failed")


def test_the_deadline_counts_from_the_first_start_over_all_attempts() -> None:
    item = restarting(activeDeadlineSeconds=100)
    item = follow(item, step(item, [], [], after=60))
    second, gang = indexed_job(2), [pod(0, 2), pod(1, 2)]
    second["metadata"]["creationTimestamp"] = "2026-11-22T09:01:00Z"
    item = follow(item, step(item, [second], gang, after=70))
    plan = step(item, [second], gang, after=99)
    assert (plan.status["phase"], plan.requeue_after) == ("Running", 1)
    assert condition(step(item, [second], gang, after=101), "Failed") == ("True", "DeadlineExceeded")


def test_preemptions_do_not_eat_the_budget_of_failures() -> None:
    item = running(failurePolicy={"maxRestarts": {"infrastructure": 0}})
    evicted = [failed_pod(0, 75), pod(1, phase="Failed", reason="Evicted")]
    plan = step(item, [indexed_job(Failed="x: y")], evicted)
    assert (plan.status["phase"], plan.status["restarts"]["byCause"]) == ("Restarting", {"Evicted": 1})


def test_each_cause_has_a_budget_of_its_own() -> None:
    item = running(failurePolicy={"maxRestarts": {"infrastructure": 1}})
    item["status"]["restarts"] = {"total": 101, "byCause": {"Hang": 1, "Preempted": 100}}
    plan = step(item, [indexed_job(Failed="x: y")], [failed_pod(0, 137), pod(1)])
    assert plan.status["restarts"] == {"total": 102, "byCause": {"Hang": 1, "Preempted": 100, "Crash": 1}}
    hung = step(item, [indexed_job(Failed="x: y")], [failed_pod(0, 76), pod(1)])
    assert condition(hung, "Failed") == ("True", "RestartsExhausted")


@pytest.mark.parametrize("allowed", [None, 0])
def test_memory_that_ran_out_gets_one_more_chance_unless_told_otherwise(allowed: int | None) -> None:
    policy = {} if allowed is None else {"failurePolicy": {"maxRestarts": {"outOfMemory": allowed}}}
    plan = step(running(**policy), [indexed_job(Failed="x: y")], [failed_pod(0, 4), pod(1)])
    assert plan.status["phase"] == ("Restarting" if allowed is None else "Failed")


def test_the_backoff_doubles_up_to_a_limit_with_a_jitter_that_every_plan_repeats() -> None:
    policy = FailurePolicy()
    waits = [backoff_seconds(policy, n, UID, n) for n in range(1, 40)]
    assert waits == [backoff_seconds(policy, n, UID, n) for n in range(1, 40)]
    for n, wait in enumerate(waits):
        assert wait == pytest.approx(min(5 * 2**n, 300), rel=0.21)
    assert len({backoff_seconds(policy, 1, uid, 1) for uid in "abcdefgh"}) > 4
    assert backoff_seconds(FailurePolicy(backoff_seconds=0), 3, UID, 3) == 0


def test_only_the_last_ten_attempts_are_kept() -> None:
    item = restarting()
    item["status"]["attempts"] = [
        {"number": n, "cause": "Crash", "reason": "", "endedAt": "2026-11-22T08:00:00Z"} for n in range(1, 11)
    ]
    item["status"]["attempt"] = 10
    plan = step(item, [], [], after=600)
    assert [record["number"] for record in plan.status["attempts"]] == list(range(2, 12))


def test_what_earlier_attempts_left_behind_is_cleaned_up_but_the_snapshot() -> None:
    plan = step(restarting(), [], [], after=60, parts=(*parts(1), *parts(5)))
    assert deleted(plan) == ["Service/tickets-1", "Service/tickets-5", "ConfigMap/tickets-5"]
    assert created(plan) == objects_of(2)


@pytest.mark.parametrize("ahead", [-300, 300], ids=["behind", "ahead"])
def test_a_pod_that_saves_is_not_stuck_because_the_clocks_differ(ahead: int) -> None:
    saving = pod(1, deleting=NOW)
    saving["metadata"]["deletionGracePeriodSeconds"] = 120
    early = step(restarting(), [], [saving], after=ahead, deleting_for={"pod-1-1": 1.0})
    assert (early.writes, early.requeue_after) == ((), 179)
    late = step(restarting(), [], [saving], after=ahead, deleting_for={"pod-1-1": 180.0})
    assert [write.grace_seconds for write in late.writes] == [0]


@pytest.mark.parametrize("stuck", [pod(1, deleting=NOW), failed_pod(1, 143, deleting=NOW)], ids=["runs", "has ended"])
def test_pods_on_a_lost_node_are_deleted_by_force(stuck: dict) -> None:
    waiting = step(restarting(), [], [stuck], after=30)
    assert (waiting.writes, waiting.requeue_after) == ((), 30)
    plan = step(restarting(), [], [stuck], after=61)
    (write,) = plan.writes
    assert (write.kind, write.name, write.grace_seconds, write.uid) == ("Pod", "tickets-1-1-abcde", 0, "pod-1-1")
    assert reasons(plan) == ["StuckPodDeleted"]
