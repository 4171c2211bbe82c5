"""What is seen and done when pods of a gang are lost."""

import json
from datetime import timedelta

import pytest

from finetune_operator.plan.evidence import Evidence, node_facts
from plan.builders import (
    NOW,
    condition,
    created,
    deleted,
    failed_pod,
    follow,
    indexed_job,
    last_words,
    message,
    pod,
    reasons,
)
from plan.gangs import GANG, parts, running, step
from plan.story import Story


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
