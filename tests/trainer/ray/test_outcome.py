"""What ends a pod of a Ray gang, and what Ray is left to mend."""

import signal

import pytest

from finetune_api.reports import TerminationMessage
from finetune_trainer.launch.verdict import Surroundings, WorkerEnd, exit_code
from finetune_trainer.ray.outcome import beyond_ray

QUIET = Surroundings()


def end(rank: int, outcome: str) -> WorkerEnd:
    message = TerminationMessage(outcome=outcome, message="the reason", rank=rank)  # type: ignore[arg-type]
    return WorkerEnd(rank, exit_code(message), message)


def killed(rank: int) -> WorkerEnd:
    return WorkerEnd(rank, -signal.SIGKILL)


@pytest.mark.parametrize("ends", [[end(0, "Crash")], [killed(0), end(1, "Crash")], [end(0, "Succeeded")], []])
def test_crashes_and_lost_workers_are_rays_affair(ends: list[WorkerEnd]) -> None:
    assert beyond_ray(ends, 2, QUIET) is None


@pytest.mark.parametrize("outcome", ["ConfigurationError", "DataError", "ExportError", "OutOfMemory"])
def test_what_would_happen_again_ends_the_pod(outcome: str) -> None:
    said = beyond_ray([end(0, "Crash"), end(1, outcome)], 2, QUIET)
    assert said is not None
    assert (said.outcome, said.message, said.rank) == (outcome, "the reason", 1)


def test_a_worker_that_the_kernel_killed_for_memory_ends_the_pod() -> None:
    said = beyond_ray([killed(0)], 1, Surroundings(oom_kills=1))
    assert said is not None
    assert said.outcome == "OutOfMemory"
    assert "raise resources.limits.memory" in said.message


def test_a_stop_is_over_when_every_worker_of_the_pod_has_saved() -> None:
    assert beyond_ray([end(0, "Preempted")], 2, QUIET) is None
    said = beyond_ray([end(0, "Preempted"), end(1, "Preempted")], 2, QUIET)
    assert said is not None
    assert said.outcome == "Preempted"
