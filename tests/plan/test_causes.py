import json
from datetime import timedelta
from typing import Any

import pytest

from finetune_operator.plan.causes import Cause, class_of
from finetune_operator.plan.evidence import Evidence, Questions, event_facts, node_facts, questions
from finetune_operator.plan.observation import AttemptFacts, observe_attempts, parse_termination
from finetune_operator.plan.root_cause import find_ending
from finetune_operator.plan.starting import find_hindrance, start_overdue
from finetune_operator.plan.status_draft import StatusDraft
from plan.builders import NOW, done_pod, failed_pod, indexed_job, job, last_words, pod, world
from plan.recorded import around, attempt_of, cases


def ending(pods: list[dict], **conditions: str) -> Any:
    return find_ending(observe_attempts([indexed_job(1, **conditions)], pods)[1])


@pytest.mark.parametrize("case", cases("exits", "memory", "disruptions"))
def test_recorded_pods(case: dict[str, Any]) -> None:
    found = find_ending(attempt_of(case), around(case))
    if case["cause"] is None:
        assert found is None
        return
    assert found is not None
    assert (found.cause, class_of(found.cause)) == (case["cause"], case["class"])
    assert (found.pod.rank, found.pod.node) == (1, "node-1")
    assert case.get("evidence", "") in found.reason


@pytest.mark.parametrize("case", cases("starting"))
def test_recorded_pods_that_do_not_start(case: dict[str, Any]) -> None:
    attempt = attempt_of(case)
    assert find_ending(attempt, around(case)) is None
    item = {**job(startDeadlineSeconds=60), "status": {}}
    draft = StatusDraft(world(item, after=59, evidence=around(case)))
    assert start_overdue(draft, attempt, 60) is None
    assert draft.requeue_after == 1
    found = start_overdue(StatusDraft(world(item, after=61, evidence=around(case))), attempt, 60)
    assert (found.cause, class_of(found.cause)) == (case["cause"], case["class"])
    assert "spec.startDeadlineSeconds (60)" in found.reason
    assert case.get("evidence", "") in found.reason


def test_enough_pods_are_on_file_and_every_cause_of_a_pod_is_among_them() -> None:
    recorded = [one.values[0]["cause"] for one in cases("exits", "memory", "disruptions", "starting")]
    assert len(recorded) >= 40
    of_no_pod = {
        Cause.SUCCEEDED,
        Cause.SUSPENDED,
        Cause.RESIZED,
        Cause.REJECTED,
        Cause.NO_RESULT,
        Cause.JOB_DELETED,
    }
    assert set(Cause) - of_no_pod == set(recorded) - {None}


def test_pods_that_a_failed_job_stops_are_not_the_cause() -> None:
    stopped = pod(0, deleting=NOW + timedelta(seconds=120))
    found = ending([stopped, failed_pod(1, 3)], FailureTarget="PodFailurePolicy: exit code 3")
    assert (found.cause, found.pod.rank) == (Cause.BAD_DATA, 1)


def test_the_root_is_told_from_its_echo() -> None:
    """The peer of a rank that ran out of memory crashes first in time, or is stopped; neither is the root."""
    later = NOW + timedelta(seconds=3)
    pods = [
        failed_pod(0, 1, "RuntimeError: Connection reset by peer"),
        failed_pod(1, 4, last_words("OutOfMemory", "CUDA", 1), at=later),
        failed_pod(2, 75, last_words("Preempted", "stopped", 2)),
    ]
    assert (ending(pods).cause, ending(pods).pod.rank) == (Cause.HOST_OUT_OF_MEMORY, 1)


def test_among_equal_causes_the_first_in_time_is_the_root() -> None:
    later = NOW + timedelta(seconds=3)
    assert ending([failed_pod(0, 1, "a", at=later), failed_pod(1, 1, "b")]).pod.rank == 1


def test_a_pod_that_was_killed_when_the_gang_was_stopped_is_not_the_root() -> None:
    killed = failed_pod(0, 137, deleting=NOW)
    found = ending([killed, failed_pod(1, 1, "device lost")], Failed="PodFailurePolicy: exit code 1")
    assert (found.cause, found.pod.rank) == (Cause.CRASH, 1)


def test_a_pod_that_was_killed_at_the_end_of_its_grace_period_did_not_crash() -> None:
    """Its checkpoint took longer than that: of the gang of a deleted pod, it and its peers end so."""
    deleted = failed_pod(0, 137, deleting=NOW)
    assert ending([deleted, pod(1)]).cause == Cause.POD_LOST
    told = ending([deleted, failed_pod(1, 137, deleting=NOW)], FailureTarget="PodFailurePolicy: exit code 137")
    assert told.cause == Cause.PREEMPTED
    assert "it had not ended within its grace period" in told.reason
    memory = failed_pod(1, 137, deleting=NOW, terminated={"exitCode": 137, "reason": "OOMKilled"})
    assert ending([deleted, memory]).cause == Cause.HOST_OUT_OF_MEMORY


def test_a_lost_node_outweighs_the_crash_that_it_causes() -> None:
    lost = pod(1, disruption="DeletionByTaintManager", deleting=NOW)
    assert ending([failed_pod(0, 1, "NCCL error"), lost]).cause == Cause.NODE_LOST


def test_a_preempting_scheduler_outweighs_the_crash_that_it_causes() -> None:
    preempted = pod(1, disruption="PreemptionByScheduler", deleting=NOW)
    assert ending([failed_pod(0, 1, "gloo/transport"), preempted]).cause == Cause.PREEMPTED


def test_a_pod_that_was_killed_after_its_own_grace_is_not_the_root_of_what_it_was_told_to_stop_for() -> None:
    cut = failed_pod(0, 1, "RuntimeError: NCCL error: remote process exited or there was a network error")
    killed = failed_pod(1, 137, at=NOW + timedelta(seconds=6), deleting=NOW + timedelta(seconds=6))
    found = ending([cut, killed], Failed="PodFailurePolicy: exit code 1")
    assert (found.cause, found.pod.rank) == (Cause.COMMUNICATION, 0)


def test_an_image_name_that_can_never_be_pulled_is_the_users() -> None:
    waiting = pod(0, phase="Pending", waiting={"reason": "InvalidImageName", "message": "couldn't parse 'x y'"})
    assert ending([waiting]).cause == Cause.INVALID_IMAGE


@pytest.mark.parametrize("reason", ["ImagePullBackOff", "ErrImagePull", "CreateContainerConfigError"])
def test_waiting_is_no_ending(reason: str) -> None:
    assert ending([pod(0, phase="Pending", waiting={"reason": reason, "message": "m"})]) is None


def test_a_healthy_gang_has_no_ending() -> None:
    assert ending([pod(0), pod(1)]) is None
    assert ending([done_pod(0), pod(1)]) is None


def test_a_failed_job_without_pods() -> None:
    found = ending([], Failed="BackoffLimitExceeded: too many")
    assert (found.cause, found.reason) == (Cause.UNKNOWN, "BackoffLimitExceeded: too many")


def test_a_job_that_someone_deleted() -> None:
    assert find_ending(AttemptFacts(1)).cause == Cause.JOB_DELETED


def test_a_log_tail_is_no_message() -> None:
    assert parse_termination("{not json") is None
    assert parse_termination(json.dumps({"outcome": "Nonsense"})) is None
    assert parse_termination("last line of a log") is None
    assert parse_termination(last_words("Crash", "x")).message == "x"


def test_the_reason_quotes_the_telling_line() -> None:
    found = ending([failed_pod(0, 1, "Traceback (most recent call last):\n  File x\nKeyError: 'label'")])
    assert found.reason == "exit code 1: KeyError: 'label'"


def test_a_sidecar_does_not_speak_for_the_trainer() -> None:
    item = pod(0)
    item["status"]["containerStatuses"].insert(0, {"name": "sidecar", "state": {"terminated": {"exitCode": 3}}})
    assert ending([item]) is None


def hung(rank: int, step: int, state: str = "", **more: Any) -> dict:
    stacks = [{"rank": rank, "state": state, "text": "File ranks.py in maximum"}]
    words = {"outcome": "Hang", "message": "no step", "rank": rank, "step": step, "stacks": stacks}
    return failed_pod(rank, 76, json.dumps(words), **more)


def test_of_a_hung_gang_the_rank_that_does_not_answer_is_the_root() -> None:
    assert ending([hung(0, 40), hung(1, 40, state="stopped (T)", at=NOW + timedelta(seconds=3))]).pod.rank == 1


def test_also_when_the_job_has_told_its_pod_to_stop() -> None:
    pods = [hung(0, 40), hung(1, 40, state="stopped (T)", deleting=NOW)]
    assert ending(pods, FailureTarget="PodFailurePolicy: exit code 76").pod.rank == 1


def test_of_a_hung_gang_the_rank_that_is_behind_is_the_root() -> None:
    assert ending([hung(0, 41), hung(1, 40, at=NOW + timedelta(seconds=3))]).pod.rank == 1


@pytest.mark.parametrize("echo", [failed_pod(0, 1, "NCCL error: remote process exited"), hung(0, 40)])
def test_what_the_peers_of_a_silent_node_die_of_is_not_the_root(echo: dict) -> None:
    """Also before the cluster has taken the pod away from it."""
    silent = {"status": {"conditions": [{"type": "Ready", "status": "Unknown", "message": "silent"}]}}
    evidence = Evidence({"node-1": node_facts("node-1", silent)})
    attempt = observe_attempts([indexed_job()], [echo, pod(1)])[1]
    found = find_ending(attempt, evidence)
    assert (found.cause, found.pod.rank) == (Cause.NODE_LOST, 1)


def test_the_silent_node_of_a_large_gang_is_asked_about() -> None:
    pods = [failed_pod(rank, 134, "Watchdog caught collective operation timeout") for rank in range(40) if rank != 29]
    pods.append(pod(29, deleting=NOW + timedelta(seconds=120)))
    attempt = observe_attempts([indexed_job(1, FailureTarget="PodFailurePolicy: x")], pods)[1]
    asked = questions(attempt, NOW).nodes
    assert asked[0] == "node-29"
    found = find_ending(attempt, Evidence({"node-29": node_facts("node-29", None)}))
    assert (found.cause, found.pod.rank) == (Cause.NODE_LOST, 29)


def test_a_silent_node_alone_ends_nothing() -> None:
    evidence = Evidence({"node-1": node_facts("node-1", None)})
    assert find_ending(observe_attempts([indexed_job()], [pod(0), pod(1)])[1], evidence) is None


STARTING = pod(1, phase="Pending")


@pytest.mark.parametrize(
    ("pods", "after", "asked"),
    [
        pytest.param([pod(0), pod(1)], 600, Questions(), id="all is well"),
        pytest.param([], 10, Questions(), id="soon after the start"),
        pytest.param([], 20, Questions((("Job", "tickets-1"),)), id="no pods come"),
        pytest.param([pod(0), STARTING], 20, Questions((("Pod", "tickets-1-1-abcde"),)), id="a pod does not start"),
        pytest.param([pod(0), pod(1, phase="Pending", unschedulable="full")], 20, Questions(), id="and says why"),
        pytest.param(
            [pod(0), failed_pod(1, 1, "x")],
            1,
            Questions((("Pod", "tickets-1-1-abcde"),), ("node-0", "node-1")),
            id="a pod fails, perhaps for its peer's node",
        ),
        pytest.param([pod(0), pod(1, disruption="EvictionByEvictionAPI")], 1, Questions(), id="it says itself why"),
    ],
)
def test_only_what_the_pods_do_not_say_themselves_is_asked_for(pods: list, after: int, asked: Questions) -> None:
    attempt = observe_attempts([indexed_job()], pods)[1]
    assert questions(attempt, NOW + timedelta(seconds=after)) == asked


def test_a_gang_whose_pods_may_not_be_made_says_so() -> None:
    refused = {
        "reason": "FailedCreate",
        "note": "pods forbidden: exceeded quota",
        "regarding": {"kind": "Job", "name": "j"},
    }
    found = find_hindrance(observe_attempts([indexed_job()], [])[1], Evidence(events=(event_facts(refused),)))
    assert (found.cause, found.reason, found.message) == (
        "CannotStart",
        "FailedCreate",
        "pods forbidden: exceeded quota",
    )
