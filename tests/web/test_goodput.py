"""What a job's devices did with their time, told by the successive states of its status."""

from collections import Counter
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from finetune_operator.web.goodput import recovery_seconds, seconds_spent
from finetune_operator.web.metrics import JobMetrics
from plan.builders import job

Status = dict[str, Any]


def at(second: int) -> str:
    return f"2026-11-22T10:{second // 60:02}:{second % 60:02}Z"


def running(status: str, second: int) -> Status:
    return {"type": "Running", "status": status, "lastTransitionTime": at(second)}


class Job:
    """A status that changes; every change is accounted for."""

    def __init__(self) -> None:
        self.status: Status = {"attempt": 0, "attempts": [], "conditions": []}
        self.furthest = 0
        self.spent: Counter[str] = Counter()
        self.recoveries: list[float] = []

    def change(self, **fields: Any) -> None:
        before, self.status = self.status, {**self.status, **fields}
        for use, seconds in seconds_spent(before, self.status, self.furthest):
            self.spent[use] += seconds
        if (recovery := recovery_seconds(before, self.status)) is not None:
            self.recoveries.append(recovery)
        self.furthest = max(self.furthest, (self.status.get("progress") or {}).get("step", 0))

    def start(self, attempt: int) -> None:
        self.change(attempt=attempt, attempts=[*self.status["attempts"], {"number": attempt, "cause": ""}])

    def run(self, second: int) -> None:
        self.change(conditions=[running("True", second)])

    def stop_running(self, second: int) -> None:
        self.change(conditions=[running("False", second)])

    def report(self, second: int, step: int, stage: str = "Training") -> None:
        progress = {"attempt": self.status["attempt"], "stage": stage, "step": step, "updatedAt": at(second)}
        self.change(progress=progress)

    def end(self, second: int, cause: str = "Crash") -> None:
        *others, last = self.status["attempts"]
        ended = {**last, "cause": cause, "endedAt": at(second)}
        self.change(attempts=[*others, ended], conditions=[running("False", second)])


def test_a_run_without_trouble_is_start_up_training_and_what_comes_after() -> None:
    job = Job()
    job.start(1)
    job.run(10)
    job.report(15, 0, "Preparing")
    job.report(20, 0)
    job.report(50, 30)
    job.report(60, 30, "Evaluating")
    job.end(70, "Succeeded")
    assert job.spent == {"overhead": 10 + 10 + 10, "training": 30}


def test_steps_that_a_restart_repeats_are_not_training_again() -> None:
    job = Job()
    job.start(1)
    job.run(0)
    job.report(10, 0)
    job.report(110, 100)
    job.end(120)
    job.start(2)
    job.run(150)
    job.report(160, 60)
    job.report(220, 120)  # 40 of these 60 steps were done before
    job.end(220, "Succeeded")
    assert job.spent == {"overhead": 10 + 10 + 10, "training": 100 + 20, "repeated": 40}


def test_nothing_is_counted_while_no_gang_runs() -> None:
    job = Job()
    job.start(1)
    job.end(100)
    job.start(2)
    job.run(200)
    job.end(230, "Succeeded")
    assert job.spent == {"unreported": 30}


@pytest.mark.parametrize("states", [{}, {"attempt": 0}, {"conditions": []}])
def test_a_job_that_has_no_attempt_holds_nothing(states: Status) -> None:
    assert list(seconds_spent(states, states, 0)) == []


def test_the_gang_stops_when_a_rank_failed_though_the_others_are_still_waited_for() -> None:
    job = Job()
    job.start(1)
    job.run(0)
    job.report(5, 1)
    job.stop_running(15)
    job.end(25)
    assert job.spent == {"overhead": 15}


def test_every_second_that_gangs_held_their_devices_is_in_one_of_the_uses() -> None:
    job, held = Job(), 0
    for attempt in range(1, 6):
        begin = attempt * 100
        job.start(attempt)
        job.run(begin)
        for tick in range(attempt):
            job.report(begin + 7 * tick, 10 * attempt + 5 * tick, "Training" if tick else "Preparing")
        job.end(begin + 50)
        held += 50
    assert sum(job.spent.values()) == pytest.approx(held)


def test_an_end_that_is_seen_only_with_the_next_attempt_is_counted() -> None:
    job = Job()
    job.start(1)
    job.run(0)
    job.report(10, 5)
    ended = {"number": 1, "cause": "NodeLost", "endedAt": at(30)}
    job.change(attempt=2, attempts=[ended, {"number": 2, "cause": ""}], conditions=[])
    assert job.spent == {"overhead": 10 + 20}


def test_recovery_lasts_from_the_failure_until_training_goes_on() -> None:
    job = Job()
    job.start(1)
    job.run(0)
    job.report(5, 10)
    job.end(20)
    job.start(2)
    job.run(40)
    job.report(45, 0, "Preparing")
    assert job.recoveries == []
    job.report(65, 10)
    job.report(70, 20)
    assert job.recoveries == [45]


def test_going_on_after_a_suspension_is_no_recovery() -> None:
    job = Job()
    job.start(1)
    job.run(0)
    job.end(20, "Suspended")
    job.start(2)
    job.report(45, 10)
    assert job.recoveries == []


def test_time_counts_for_each_device_and_a_job_that_is_gone_leaves_nothing() -> None:
    registry = CollectorRegistry()
    metrics = JobMetrics([], registry, lambda: True)
    running = {"type": "Running", "status": "True", "lastTransitionTime": "2026-11-22T09:00:00Z"}

    def seen(step: int, at: str) -> Status:
        progress = {"attempt": 1, "stage": "Training", "step": step, "updatedAt": at}
        status = {"attempt": 1, "nodes": 2, "conditions": [running], "progress": progress}
        return job(distributed={"nodes": 3, "processesPerNode": 4}) | {"status": status}

    before, after = seen(1, "2026-11-22T09:00:10Z"), seen(2, "2026-11-22T09:00:20Z")
    metrics.on_change(None, before)
    metrics.on_change(before, after)
    labels = {"namespace": "ml", "use": "training"}
    assert registry.get_sample_value("finetune_job_device_seconds_total", labels) == 10 * 2 * 4
    metrics.on_change(after, None)
    assert (metrics._furthest, metrics._shown) == ({}, {})
