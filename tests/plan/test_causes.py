import json
from datetime import timedelta
from typing import Any

import pytest

from finetune_operator.plan.causes import Cause, class_of, find_ending
from finetune_operator.plan.observation import AttemptFacts, observe_attempts, parse_termination
from plan.builders import NOW, done_pod, failed_pod, indexed_job, last_words, pod


def ending(pods: list[dict], **conditions: str) -> Any:
    return find_ending(observe_attempts([indexed_job(1, **conditions)], pods)[1])


@pytest.mark.parametrize(
    ("exit_code", "words", "cause", "class_"),
    [
        (2, last_words("ConfigurationError", "no such layer"), Cause.USER_ERROR, "user"),
        (2, "", Cause.USER_ERROR, "user"),
        (3, last_words("DataError", "train.jsonl:7: not JSON"), Cause.BAD_DATA, "user"),
        (4, last_words("OutOfMemory", "CUDA"), Cause.OUT_OF_MEMORY, "user"),
        (75, last_words("Preempted", "saved step 40"), Cause.PREEMPTED, "preemption"),
        (143, "", Cause.PREEMPTED, "preemption"),
        (76, last_words("Hang", "no step for 300 s"), Cause.HANG, "infrastructure"),
        (1, last_words("Crash", "RuntimeError: CUDA error: an illegal memory access"), Cause.CRASH, "infrastructure"),
        (1, last_words("Crash", "KeyError: 'label' (at recipe.py:3 run)"), Cause.USER_ERROR, "user"),
        (1, "Traceback (most recent call last):\n  File x\nTypeError: x", Cause.USER_ERROR, "user"),
        (1, last_words("Crash", "was ended by SIGKILL without a word"), Cause.CRASH, "infrastructure"),
        (1, "Traceback\nRuntimeError: Connection closed by peer [10.0.0.7]", Cause.NETWORK, "infrastructure"),
        (139, "", Cause.CRASH, "infrastructure"),
    ],
)
def test_exit_codes_and_last_words(exit_code: int, words: str, cause: Cause, class_: str) -> None:
    found = ending([pod(0), failed_pod(1, exit_code, words)])
    assert found.cause == cause
    assert class_of(found.cause) == class_
    assert f"exit code {exit_code}" in found.reason
    assert found.pod.rank == 1


@pytest.mark.parametrize(
    ("disruption", "cause", "class_"),
    [
        ("PreemptionByScheduler", Cause.PREEMPTED, "preemption"),
        ("EvictionByEvictionAPI", Cause.EVICTED, "preemption"),
        ("TerminationByKubelet", Cause.EVICTED, "preemption"),
        ("DeletionByTaintManager", Cause.NODE_LOST, "infrastructure"),
        ("DeletionByPodGC", Cause.NODE_LOST, "infrastructure"),
        ("SomethingNew", Cause.POD_LOST, "infrastructure"),
    ],
)
def test_disruptions(disruption: str, cause: Cause, class_: str) -> None:
    found = ending([pod(0), pod(1, disruption=disruption, deleting=NOW)])
    assert (found.cause, class_of(found.cause), found.pod.node) == (cause, class_, "node-1")


def test_a_pod_that_the_kubelet_evicted() -> None:
    assert ending([pod(0), pod(1, phase="Failed", reason="Evicted")]).cause == Cause.EVICTED


def test_killed_for_memory() -> None:
    killed = pod(1, phase="Failed", terminated={"exitCode": 137, "reason": "OOMKilled"})
    found = ending([pod(0), killed])
    assert found.cause == Cause.OUT_OF_MEMORY
    assert "memory" in found.reason


def test_a_program_that_the_image_does_not_have_is_not_tried_again() -> None:
    message = 'exec: "finetune-trainer": executable file not found in $PATH'
    failed = pod(0, phase="Failed", terminated={"exitCode": 128, "reason": "StartError", "message": message})
    found = ending([failed])
    assert (found.cause, class_of(found.cause)) == (Cause.INVALID_IMAGE, "user")
    assert message in found.reason


def test_a_deleted_pod_is_a_lost_one() -> None:
    found = ending([pod(0), pod(1, deleting=NOW + timedelta(seconds=120))])
    assert (found.cause, found.pod.rank) == (Cause.POD_LOST, 1)


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
    assert (ending(pods).cause, ending(pods).pod.rank) == (Cause.OUT_OF_MEMORY, 1)


def test_among_equal_causes_the_first_in_time_is_the_root() -> None:
    later = NOW + timedelta(seconds=3)
    assert ending([failed_pod(0, 1, "a", at=later), failed_pod(1, 1, "b")]).pod.rank == 1


def test_a_pod_that_was_killed_when_the_gang_was_stopped_is_not_the_root() -> None:
    killed = failed_pod(0, 137, deleting=NOW)
    found = ending([killed, failed_pod(1, 1, "device lost")], Failed="PodFailurePolicy: exit code 1")
    assert (found.cause, found.pod.rank) == (Cause.CRASH, 1)


def test_a_lost_node_outweighs_the_crash_that_it_causes() -> None:
    lost = pod(1, disruption="DeletionByTaintManager", deleting=NOW)
    assert ending([failed_pod(0, 1, "NCCL error"), lost]).cause == Cause.NODE_LOST


def test_a_preempting_scheduler_outweighs_the_crash_that_it_causes() -> None:
    preempted = pod(1, disruption="PreemptionByScheduler", deleting=NOW)
    assert ending([failed_pod(0, 1, "gloo/transport"), preempted]).cause == Cause.PREEMPTED


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
    assert (found.cause, found.reason) == (Cause.POD_LOST, "BackoffLimitExceeded: too many")


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
