import json
import math
from datetime import timedelta
from typing import Any

import pytest

from finetune_api.failure_policy import FailurePolicy
from finetune_operator.plan.budgets import backoff_seconds
from finetune_operator.plan.evidence import Evidence, node_facts
from finetune_operator.plan.lifecycle import plan_job
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
    job,
    last_words,
    message,
    pod,
    reasons,
    snapshot_of,
    world,
)
from plan.story import Story

OBJECTS = ["ConfigMap/tickets-{0}", "Service/tickets-{0}", "Job/tickets-{0}"]
GANG = [pod(0), pod(1)]


def objects_of(number: int) -> list[str]:
    return [name.format(number) for name in OBJECTS]


def started(**changes: Any) -> dict:
    """A job whose first attempt was announced."""
    fresh = job(**changes)
    return follow(fresh, plan_job(world(fresh, runtime={"spec": {}})))


def step(item: dict, jobs: list | None = None, pods: list | None = None, after: float = 10, **more: Any) -> Plan:
    more.setdefault("snapshot", snapshot_of(item))
    more.setdefault("parts", parts(item["status"]["attempt"]) if jobs else ())
    return plan_job(world(item, jobs, pods, after, **more))


def running(**changes: Any) -> dict:
    """A job whose gang runs."""
    item = started(**changes)
    return follow(item, step(item, [indexed_job()], GANG, after=5))


def parts(number: int) -> tuple[dict, ...]:
    return tuple(
        {"kind": kind, "metadata": {"name": f"tickets-{number}", "uid": f"{kind}-{number}"}}
        for kind in ("Service", "ConfigMap")
    )


# Start


def test_the_first_attempt_is_written_down_and_made_in_one_step() -> None:
    plan = plan_job(world(job()))
    assert created(plan) == objects_of(1)
    assert plan.status["attempt"] == 1
    assert plan.status["phase"] == "Starting"
    assert plan.status["startTime"] == "2026-11-22T09:00:00Z"
    assert condition(plan, "Validated") == ("True", "Valid")
    assert condition(plan, "Admitted") == ("True", "NotQueued")
    assert condition(plan, "Reconciling") == ("True", "Starting")
    assert reasons(plan) == [], "nobody needs to be told that what was just applied starts"


def test_the_summary_says_what_a_job_waits_for() -> None:
    waiting = pod(
        0, phase="Pending", waiting={"reason": "CreateContainerConfigError", "message": 'secret "s3" not found'}
    )
    plan = step(started(), [indexed_job()], [waiting])
    for summary in ("Ready", "Reconciling"):
        assert 'secret "s3" not found' in message(plan, summary)
    assert message(step(running(), [indexed_job()], GANG), "Ready") == ""


def test_nothing_is_written_while_nothing_changes() -> None:
    item = running()
    plan = step(item, [indexed_job()], GANG, after=300)
    assert plan.status == item["status"]
    assert (plan.writes, plan.events) == ((), ())


def test_an_announced_attempt_whose_job_was_never_seen_is_made_again() -> None:
    item = started()
    plan = step(item)
    assert created(plan) == objects_of(1)
    assert plan.status == item["status"]


def test_an_announced_attempt_waits_for_the_pods_of_another_to_go() -> None:
    plan = step(started(), pods=[pod(0, number=7)])
    assert plan.writes == ()


def second_attempt(**status: Any) -> dict:
    """A job whose second gang runs."""
    item = running()
    second = {"number": 2, "nodes": 2, "cause": "", "reason": "", "startedAt": "2026-11-22T09:00:00Z"}
    item["status"] |= {"attempt": 2, "attempts": [*item["status"]["attempts"], second], **status}
    return item


@pytest.mark.parametrize("own", [indexed_job(2), indexed_job(2, Complete="x: y"), indexed_job(2, Failed="x: y")])
def test_a_gang_of_another_attempt_that_appears_late_is_stopped(own: dict) -> None:
    """Its creation was asked for, was answered with an error, and took effect after the restart."""
    strays = [indexed_job(1), indexed_job(3)]
    pods = [pod(0, 2), pod(1, 2), pod(0, 1)]
    gone = deleted(step(second_attempt(), [*strays, own], pods))
    assert [gone.count(f"Job/tickets-{number}") for number in (1, 3)] == [1, 1]
    leaving = [one | {"metadata": one["metadata"] | {"deletionTimestamp": "2026-11-22T09:00:09Z"}} for one in strays]
    assert not {"Job/tickets-1", "Job/tickets-3"} & set(deleted(step(second_attempt(), [*leaving, own], pods)))


def test_an_announced_attempt_is_not_held_up_by_a_gang_that_appears_late() -> None:
    item = second_attempt()
    del item["status"]["attempts"][-1]["startedAt"]
    plan = step(item, [indexed_job(1)], [pod(0, 1)])
    assert (deleted(plan), created(plan)) == (["Job/tickets-1"], [])


@pytest.mark.parametrize("lost", [0, 1])
def test_a_part_that_someone_deleted_is_made_again(lost: int) -> None:
    plan = step(running(), [indexed_job()], GANG, parts=(parts(1)[1 - lost],))
    assert created(plan) == [["Service/tickets-1", "ConfigMap/tickets-1"][lost]]
    assert plan.status == running()["status"]


def test_pods_that_cannot_be_placed_say_why() -> None:
    pending = [pod(0), pod(1, phase="Pending", unschedulable="0/3 nodes: insufficient gpu")]
    plan = step(started(), [indexed_job()], pending)
    assert condition(plan, "Running") == ("False", "Unschedulable")
    assert message(plan, "Running") == "pod tickets-1-1-abcde: 0/3 nodes: insufficient gpu"
    assert plan.status["phase"] == "Starting"


def test_an_image_that_cannot_be_pulled_says_why_and_waits() -> None:
    waiting = pod(1, phase="Pending", waiting={"reason": "ImagePullBackOff", "message": "manifest unknown"})
    plan = step(started(), [indexed_job()], [pod(0), waiting])
    assert condition(plan, "Running") == ("False", "ImagePullBackOff")
    assert plan.writes == ()


def test_running_means_that_every_pod_runs() -> None:
    assert step(started(), [indexed_job()], GANG[:1]).status["phase"] == "Starting"
    plan = step(started(), [indexed_job()], GANG)
    assert plan.status["phase"] == "Running"
    assert condition(plan, "Running") == ("True", "AttemptRunning")
    assert plan.status["attempts"][0]["startedAt"] == "2026-11-22T09:00:00Z"
    assert reasons(plan) == ["AttemptRunning"]


def test_pods_that_end_one_after_the_other_leave_the_job_running() -> None:
    plan = step(running(), [indexed_job()], [GANG[0], pod(1, phase="Succeeded", terminated={"exitCode": 0})])
    assert plan.status["phase"] == "Running"
    assert plan.events == ()


# Loss of pods


def test_a_crash_stops_the_gang_and_is_recorded() -> None:
    pods = [pod(0), failed_pod(1, 1, last_words("Crash", "CUDA error: device lost", 1), at=NOW)]
    plan = step(running(), [indexed_job()], pods, after=15, parts=parts(1))
    assert plan.status["phase"] == "Restarting"
    assert plan.status["restarts"] == {"total": 1, "byCause": {"Crash": 1}}
    record = plan.status["attempts"][0]
    assert record["cause"] == "Crash"
    assert (record["rank"], record["node"], record["pod"]) == (1, "node-1", "tickets-1-1-abcde")
    assert (record["exitCode"], record["lastLogLines"]) == (1, "CUDA error: device lost")
    assert record["endedAt"] == "2026-11-22T09:00:15Z"
    assert deleted(plan) == ["Job/tickets-1", "Service/tickets-1"]
    assert plan.writes[0].propagation == "Foreground"
    assert reasons(plan) == ["AttemptFailed", "Restarting"]


def test_the_rank_is_the_process_that_failed() -> None:
    pods = [pod(0), failed_pod(1, 3, last_words("DataError", "x", rank=5))]
    assert step(running(), [indexed_job()], pods).status["attempts"][0]["rank"] == 5


def test_other_pods_get_time_to_show_the_root_cause() -> None:
    pods = [pod(0), failed_pod(1, 1, "Connection reset by peer", at=NOW)]
    early = step(running(), [indexed_job()], pods, after=4)
    assert (early.writes, early.status["phase"], early.requeue_after) == ((), "Running", 6)
    assert condition(early, "Running") == ("False", "AttemptFailed")
    assert early.status["attempts"][0]["cause"] == "Communication"
    pods[0] = failed_pod(0, 3, last_words("DataError", "empty"), at=NOW + timedelta(seconds=5))
    late = step(follow(running(), early), [indexed_job()], pods, after=6)
    assert late.status["attempts"][0]["cause"] == "BadData"
    assert condition(late, "Failed") == ("True", "BadData")


def test_what_a_vanished_pod_has_shown_is_kept() -> None:
    item = running()
    gone = pod(1, disruption="EvictionByEvictionAPI", deleting=NOW + timedelta(seconds=120))
    seen = step(item, [indexed_job()], [pod(0), gone], after=1)
    assert seen.status["attempts"][0]["cause"] == "Evicted"
    failed = indexed_job(Failed="PodFailurePolicy: pod failed")
    plan = step(follow(item, seen), [failed], [failed_pod(0, 75)], after=5)
    assert plan.status["attempts"][0]["cause"] == "Evicted"
    assert plan.status["restarts"]["byCause"] == {"Evicted": 1}
    assert reasons(plan) == ["AttemptPreempted", "Restarting"]


def test_an_evicted_gang_gets_its_grace_period_to_save() -> None:
    evicted = pod(1, disruption="EvictionByEvictionAPI", deleting=NOW + timedelta(seconds=120))
    plan = step(running(), [indexed_job()], [pod(0), evicted], after=60)
    assert plan.writes == ()
    assert plan.requeue_after == 70


def test_a_pod_that_was_lost_and_replaced_still_ends_the_attempt() -> None:
    """The Job controller may bring a new pod; its gang has moved on."""
    item = running()
    seen = step(item, [indexed_job()], [pod(0), pod(1, deleting=NOW + timedelta(seconds=1))], after=1)
    plan = step(follow(item, seen), [indexed_job()], GANG, after=20)
    assert plan.status["phase"] == "Restarting"
    assert plan.status["attempts"][0]["cause"] == "PodLost"


def test_a_job_deleted_by_someone_else_is_an_ended_attempt() -> None:
    plan = step(running(), [], [])
    assert plan.status["attempts"][0]["cause"] == "JobDeleted"
    assert plan.status["phase"] == "Restarting"


@pytest.mark.parametrize("exit_code", [2, 3])
def test_user_errors_fail_at_once(exit_code: int) -> None:
    plan = step(running(), [indexed_job()], [pod(0), failed_pod(1, exit_code, at=NOW)], after=1)
    assert plan.status["phase"] == "Failed"
    assert plan.status["completionTime"] == "2026-11-22T09:00:01Z"
    assert condition(plan, "Running") == ("False", plan.status["attempts"][0]["cause"])
    assert "rank 1 on node node-1" in message(plan, "Failed")


def test_a_failed_job_keeps_its_pods_for_their_logs() -> None:
    ended = indexed_job(FailureTarget="PodFailurePolicy: exit code 3")
    assert deleted(step(running(), [ended], [pod(0), failed_pod(1, 3)])) == []


def test_the_evidence_is_that_of_the_pod_that_is_to_blame() -> None:
    """And not what another pod showed, which was looked at first."""
    story = Story()
    story.step()
    story.step([indexed_job()], [pod(0), pod(1)])
    failing = [indexed_job(1, FailureTarget="PodFailurePolicy: x")]
    echo = failed_pod(0, 134, "Watchdog caught collective operation timeout", at=NOW + timedelta(seconds=20))
    pods = [echo, pod(1, deleting=NOW + timedelta(seconds=150))]
    first = story.step(failing, pods, seconds=1).status["attempts"][-1]
    assert (first["cause"], first["exitCode"]) == ("Communication", 134)
    gone = Evidence({"node-1": node_facts("node-1", None)})
    record = story.step(failing, pods, seconds=5, evidence=gone).status["attempts"][-1]
    assert (record["cause"], record["rank"], record["node"]) == ("NodeLost", 1, "node-1")
    assert not {"exitCode", "lastLogLines"} & record.keys()


def test_a_preempted_gang_is_not_called_crashed_for_what_its_peers_die_of() -> None:
    """Also once the pod that was taken is gone, and only the echo is left to see."""
    story = Story()
    story.step()
    story.step([indexed_job()], [pod(0), pod(1)])
    taken = pod(1, disruption="PreemptionByScheduler", deleting=NOW + timedelta(seconds=150))
    story.step([indexed_job()], [pod(0), taken], seconds=1)
    echo = failed_pod(0, 139, "Segmentation fault", at=NOW + timedelta(seconds=60))
    plan = story.step([indexed_job(1, Failed="PodFailurePolicy: x")], [echo], seconds=60)
    assert plan.status["restarts"]["byCause"] == {"Preempted": 1}


def test_the_condition_suspended_does_not_outlast_a_quick_resume() -> None:
    story = Story()
    story.step()
    story.step([indexed_job()], [pod(0), pod(1)])
    story.item["spec"]["suspend"] = True
    assert condition(story.step([indexed_job()], [pod(0), pod(1)]), "Suspended") == ("False", "Stopping")
    story.item["spec"]["suspend"] = False
    story.step([indexed_job()], [pod(0, deleting=NOW + timedelta(seconds=150))])
    resumed = story.step()
    assert (condition(resumed, "Suspended"), created(resumed)[-1]) == (("False", "Resumed"), "Job/tickets-2")
    assert resumed.status.get("suspendedSeconds", 0) == 0, "its pods were stopping, which counts"


def test_it_keeps_them_too_when_their_end_is_seen_before_that_of_the_job() -> None:
    plan = step(running(), [indexed_job()], [failed_pod(0, 3), failed_pod(1, 3)])
    assert plan.status["phase"] == "Failed"
    assert deleted(plan) == []
    late = step(running(), [indexed_job()], [failed_pod(1, 3)])
    assert deleted(late) == ["Job/tickets-1"], "its other pod may still come"


def test_a_failed_job_stops_a_gang_that_would_run_on() -> None:
    assert deleted(step(running(), [indexed_job()], [pod(0), failed_pod(1, 3)])) == ["Job/tickets-1"]


def hung(rank: int, state: str = "") -> dict:
    stacks = [{"rank": rank, "state": state, "text": "" if state else "ranks.py:54 maximum"}]
    words = {"outcome": "Hang", "message": "no step", "rank": rank, "step": 40, "stacks": stacks}
    return failed_pod(rank, 76, json.dumps(words))


def test_after_a_hang_the_status_shows_what_every_rank_was_at() -> None:
    """Also when the pods end one after the other, and the first is gone by then."""
    item = running()
    item = follow(item, step(item, [indexed_job()], [hung(0), pod(1)], after=2))
    assert step(item, [indexed_job()], [hung(0), pod(1)], after=30).writes == ()  # rank 1 is still to tell
    plan = step(item, [indexed_job(Failed="x: y")], [hung(1, "stopped by a signal (T)")], after=4)
    record = plan.status["attempts"][0]
    assert (record["cause"], record["rank"], plan.status["phase"]) == ("Hang", 1, "Restarting")
    assert record["stacks"] == [
        {"rank": 1, "state": "stopped by a signal (T)"},
        {"rank": 0, "text": "ranks.py:54 maximum"},
    ]


# Restart


def restarting(**changes: Any) -> dict:
    item = running(**changes)
    crashed = [failed_pod(0, 1, "x"), failed_pod(1, 1, "y")]
    return follow(item, step(item, [indexed_job(Failed="BackoffLimitExceeded: x")], crashed, after=10))


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


# Pods that do not start


def test_pods_that_do_not_start_in_time_give_up_what_they_hold_and_are_tried_again() -> None:
    item = started(startDeadlineSeconds=60)
    pods = [pod(0), pod(1, phase="Pending", unschedulable="0/3 nodes: insufficient gpu")]
    early = step(item, [indexed_job()], pods, after=20)
    assert (early.writes, early.requeue_after) == ((), 40)
    plan = step(item, [indexed_job()], pods, after=60, parts=parts(1))
    assert deleted(plan) == ["Job/tickets-1", "Service/tickets-1"]
    assert plan.status["attempts"][0]["cause"] == "Unschedulable"
    assert "spec.startDeadlineSeconds (60)" in plan.status["attempts"][0]["reason"]
    assert plan.status["restarts"]["byCause"] == {"Unschedulable": 1}


def test_the_start_deadline_is_over_once_all_pods_run() -> None:
    item = running(startDeadlineSeconds=60)
    assert step(item, [indexed_job()], GANG, after=600).status["phase"] == "Running"


def test_the_start_deadline_does_not_count_the_time_in_a_queue() -> None:
    item, queued = started(startDeadlineSeconds=60), indexed_job(Suspended="JobSuspended: queued")
    assert step(item, [queued], [], after=600).status["phase"] == "Starting"
    admitted = indexed_job()
    admitted["status"]["startTime"] = "2026-11-22T09:10:00Z"
    assert step(item, [admitted], GANG[:1], after=630).requeue_after == 30
    assert step(item, [admitted], GANG[:1], after=661).status["attempts"][0]["cause"] == "StartDeadlineExceeded"


def test_pods_that_hold_a_node_without_being_able_to_start_are_given_up_in_the_end() -> None:
    waiting = pod(1, phase="Pending", waiting={"reason": "ImagePullBackOff", "message": "manifest unknown"})
    waiting["status"]["conditions"] = [
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-11-22T09:00:00Z"}
    ]
    item = started()
    pulling = pod(1, phase="Pending", waiting={"reason": "ContainerCreating"})
    item = follow(item, step(item, [indexed_job()], [pod(0), pulling], after=960))
    item = follow(item, step(item, [indexed_job()], [pod(0), waiting], after=1000))
    assert item["status"]["attempts"][0]["hinderedSince"] == "2026-11-22T09:16:40Z", "it took long, and was going well"
    assert step(item, [indexed_job()], [pod(0), waiting], after=1899).writes == ()
    assert "hinderedSince" not in step(item, [indexed_job()], GANG, after=1899).status["attempts"][0]
    plan = step(item, [indexed_job()], [pod(0), waiting], after=1900)
    assert plan.status["attempts"][0]["cause"] == "ImagePull"
    assert "not started within 15 minutes on node node-1" in plan.status["attempts"][0]["reason"]


# Suspend


def edited(item: dict, **changes: Any) -> dict:
    metadata = {**item["metadata"], "generation": item["metadata"]["generation"] + 1}
    return {**item, "metadata": metadata, "spec": {**item["spec"], **changes}}


def test_a_job_that_is_suspended_from_the_beginning_starts_nothing() -> None:
    plan = plan_job(world(job(suspend=True)))
    assert (plan.status["phase"], plan.writes) == ("Suspended", ())
    assert condition(plan, "Suspended") == ("True", "Suspended")
    assert condition(plan, "Reconciling") == ("False", "Suspended")
    item = edited(follow(job(suspend=True), plan), suspend=False)
    resumed = plan_job(world(item, after=100))
    assert created(resumed) == objects_of(1)
    assert condition(resumed, "Suspended") == ("False", "Resumed")
    assert resumed.status.get("suspendedSeconds", 0) == 0


def test_suspend_stops_the_gang_gracefully_and_resume_is_no_restart() -> None:
    item = edited(running(), suspend=True)
    plan = step(item, [indexed_job()], GANG, parts=parts(1))
    assert deleted(plan) == ["Job/tickets-1", "Service/tickets-1"]
    assert all(write.grace_seconds is None for write in plan.writes)
    assert (plan.status["phase"], condition(plan, "Suspended")) == ("Suspended", ("False", "Stopping"))
    item = follow(item, plan)
    stopping = step(item, [], [pod(0, deleting=NOW + timedelta(seconds=120))], after=20)
    assert condition(stopping, "Suspended") == ("False", "Stopping")
    plan = step(item, [], [], after=30)
    assert condition(plan, "Suspended") == ("True", "Suspended")
    assert plan.status["attempts"][-1]["cause"] == "Suspended"
    item = edited(follow(item, plan), suspend=False)
    plan = step(item, [], [], after=130)
    assert created(plan) == objects_of(2)
    assert plan.status["restarts"] == {"total": 0, "byCause": {}}
    assert plan.status["suspendedSeconds"] == 100
    assert reasons(plan) == ["Resumed", "AttemptStarted"]


def test_resume_waits_until_the_old_gang_is_gone() -> None:
    item = edited(running(), suspend=True)
    item = edited(follow(item, step(item, [indexed_job()], GANG)), suspend=False)
    assert step(item, [], [GANG[0]], after=20).writes == ()


def test_suspend_during_a_backoff_starts_nothing() -> None:
    item = edited(restarting(), suspend=True)
    plan = step(item, [], [], after=600)
    assert (plan.writes, plan.status["phase"]) == ((), "Suspended")


def test_suspend_before_the_job_was_seen() -> None:
    item = edited(started(), suspend=True)
    plan = step(item, [], [])
    assert plan.status["attempts"][-1]["cause"] == "Suspended"
    assert created(plan) == []


# Deadline


def test_the_deadline_ends_the_job_whatever_runs() -> None:
    item = running(activeDeadlineSeconds=60)
    assert step(item, [indexed_job()], GANG, after=20).requeue_after == 40
    plan = step(item, [indexed_job()], GANG, after=60)
    assert condition(plan, "Failed") == ("True", "DeadlineExceeded")
    assert deleted(plan) == ["Job/tickets-1"]
    assert plan.status["attempts"][-1]["cause"] == "DeadlineExceeded"
    assert reasons(plan) == ["DeadlineExceeded", "Failed"]


def test_the_deadline_holds_between_attempts_too() -> None:
    plan = step(restarting(activeDeadlineSeconds=12), [], [], after=13)
    assert condition(plan, "Failed") == ("True", "DeadlineExceeded")
    assert plan.status["attempts"][-1]["cause"] == "Crash"


def test_suspended_time_does_not_count() -> None:
    item = edited(running(activeDeadlineSeconds=60), suspend=True)
    item = follow(item, step(item, [indexed_job()], GANG, after=10))
    item = follow(item, step(item, [], [], after=20))
    assert step(item, [], [], after=5000).status["phase"] == "Suspended"
    item = edited(item, suspend=False)
    item = follow(item, step(item, [], [], after=5000))
    assert item["status"]["phase"] == "Starting"
    item = follow(item, step(item, [indexed_job(2)], [pod(0, 2), pod(1, 2)], after=5010))
    assert step(item, [indexed_job(2)], [pod(0, 2), pod(1, 2)], after=5035).status["phase"] == "Running"
    plan = step(item, [indexed_job(2)], [pod(0, 2), pod(1, 2)], after=5041)
    assert condition(plan, "Failed") == ("True", "DeadlineExceeded")


def test_the_deadline_may_be_moved_while_the_job_runs() -> None:
    item = edited(running(activeDeadlineSeconds=60), activeDeadlineSeconds=600)
    plan = step(item, [indexed_job()], GANG, after=100)
    assert plan.status["phase"] == "Running"
    assert condition(plan, "Validated") == ("True", "Valid")


# Edits


def test_an_edit_after_the_start_is_refused_and_told_once() -> None:
    item = edited(running(), training={"learningRate": 0.5, "epochs": 9})
    item["spec"]["distributed"] = {"nodes": 4}
    plan = step(item, [indexed_job()], GANG, snapshot=snapshot_of(running()))
    assert condition(plan, "Validated") == ("True", "SpecChangeIgnored")
    text = message(plan, "Validated")
    for field in ("spec.distributed.nodes", "spec.training.epochs", "spec.training.learningRate"):
        assert field in text
    assert (plan.writes, plan.status["phase"]) == ((), "Running")
    assert plan.status["observedGeneration"] == 2
    assert reasons(plan) == ["SpecChangeIgnored"]
    again = step(follow(item, plan), [indexed_job()], GANG, snapshot=snapshot_of(running()))
    assert again.events == ()


def test_taking_an_edit_back_clears_the_notice() -> None:
    item = edited(running(), training={"learningRate": 0.5})
    item = follow(item, step(item, [indexed_job()], GANG, snapshot=snapshot_of(running())))
    plan = step(edited(item, training={}), [indexed_job()], GANG, snapshot=snapshot_of(running()))
    assert condition(plan, "Validated") == ("True", "Valid")


def test_an_edit_that_makes_the_spec_invalid_does_not_fail_a_running_job() -> None:
    item = edited(running(), task="Cooking")
    plan = step(item, [indexed_job()], GANG, snapshot=snapshot_of(running()))
    assert plan.status["phase"] == "Running"
    assert condition(plan, "Validated") == ("True", "SpecChangeIgnored")


def test_a_default_that_a_newer_schema_fills_in_is_no_edit() -> None:
    item = edited(running(), training={"seed": 0, "scheduler": "Linear"})
    plan = step(item, [indexed_job()], GANG, snapshot=snapshot_of(running()))
    assert condition(plan, "Validated") == ("True", "Valid")


# Finished


def finished(**changes: Any) -> dict:
    item = running(**changes)
    return follow(item, step(item, [indexed_job(Failed="x: y")], [failed_pod(0, 3)], after=10))


def test_a_finished_job_never_runs_again() -> None:
    item = finished()
    for jobs, pods in (([], []), ([indexed_job(Failed="x: y")], []), ([], [failed_pod(0, 3)])):
        plan = step(item, jobs, pods, after=10_000)
        assert (plan.writes, plan.status) == ((), item["status"])


def test_the_summary_of_a_finished_job_follows_its_outcome_whoever_edits_it() -> None:
    item = finished()
    right = item["status"]
    item["status"] = right | {"phase": "Running"}
    assert step(item, after=20).status["phase"] == right["phase"] == "Failed"


def test_a_stray_gang_of_a_finished_job_is_stopped() -> None:
    assert deleted(step(finished(), [indexed_job(9)], [pod(0, 9)], after=20)) == ["Job/tickets-9"]


def test_a_finished_job_expires() -> None:
    item = finished(ttlSecondsAfterFinished=30)
    assert step(item, after=20).requeue_after == 20
    plan = step(item, after=41)
    (write,) = plan.writes
    assert (write.kind, write.name, write.uid) == ("FineTuneJob", "tickets", UID)
    assert reasons(plan) == ["Expired"]


def test_the_runtimes_ttl_is_the_default() -> None:
    item = finished(runtimeRef={"name": "gpu"})
    snapshot = snapshot_of(item, {"ttlSecondsAfterFinished": 5})
    assert deleted(step(item, after=60, snapshot=snapshot)) == ["FineTuneJob/tickets"]


def test_an_edit_after_the_end_is_told() -> None:
    item = edited(finished(), training={"learningRate": 0.5})
    plan = step(item, snapshot=snapshot_of(finished()), after=60)
    assert condition(plan, "Validated") == ("True", "SpecChangeIgnored")
    assert plan.writes == ()
