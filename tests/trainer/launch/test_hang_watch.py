"""When a silence is a hang, and what stacks are made of."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from finetune_trainer.heartbeat import LEAST_SECONDS, OTHER_SECONDS, Heartbeat, heartbeat_file, read_beat
from finetune_trainer.launch.hang_watch import LONGEST_LOOK, HangWatch
from finetune_trainer.launch.stacks import Dump, collect, main_thread, stacks_file
from finetune_trainer.launch.verdict import hang


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def beating(folder: Path, clock: Clock, rank: int = 0, timeout: float | None = None) -> Heartbeat:
    return Heartbeat(heartbeat_file(folder, rank), timeout, clock)


def looked(watch: HangWatch, clock: Clock, seconds: float) -> list[int]:
    """Look once a second for so long; the ranks that are overdue in the end."""
    overdue = []
    for _ in range(round(seconds)):
        clock.now += 1.0
        overdue = [one.rank for one in watch.look()]
    return overdue


def test_no_step_for_longer_than_the_jobs_own_timeout_is_a_hang(tmp_path: Path, clock: Clock) -> None:
    hearts = [beating(tmp_path, clock, rank, timeout=30) for rank in (0, 1)]
    watch = HangWatch(tmp_path, [0, 1], clock)
    for step in range(1, 4):
        for heart in hearts:
            heart.step(step)
        assert looked(watch, clock, 29) == []
    hearts[0].step(4)
    assert looked(watch, clock, 2) == []
    assert looked(watch, clock, 1) == [1]
    assert watch.steps() == {0: 4, 1: 3}


def test_without_one_it_is_ten_median_steps_and_five_minutes_at_least(clock: Clock) -> None:
    heart = Heartbeat(None, clock=clock)
    for step, seconds in enumerate([1, 1, 1, 900, 1]):
        clock.now += seconds
        heart.step(step)
    assert heart.patience == LEAST_SECONDS
    for step in range(60):
        clock.now += 120
        heart.step(step)
    assert heart.patience == 1200


def test_what_is_no_training_step_may_take_longer_and_is_none(tmp_path: Path, clock: Clock) -> None:
    heart = beating(tmp_path, clock, timeout=30)
    assert read_beat(heartbeat_file(tmp_path, 0)).due_in == OTHER_SECONDS  # preparation
    heart.step(1)
    with heart.other_work():
        assert read_beat(heartbeat_file(tmp_path, 0)).due_in == OTHER_SECONDS
        clock.now += 5000
    clock.now += 2
    heart.step(2)
    beat = read_beat(heartbeat_file(tmp_path, 0))
    assert (beat.step, beat.due_in, list(heart._durations)) == (2, 30, [2.0])
    heart.rest()
    assert read_beat(heartbeat_file(tmp_path, 0)).due_in == OTHER_SECONDS


def test_from_the_second_on_an_evaluation_may_take_ten_times_the_longest(tmp_path: Path, clock: Clock) -> None:
    heart = beating(tmp_path, clock, timeout=30)

    def evaluated(seconds: float) -> float:
        with heart.evaluation():
            due_in = read_beat(heartbeat_file(tmp_path, 0)).due_in
            clock.now += seconds
        return due_in

    heart.step(1)
    assert [evaluated(seconds) for seconds in (2, 100, 50, 1)] == [OTHER_SECONDS, LEAST_SECONDS, 1000, 1000]
    assert read_beat(heartbeat_file(tmp_path, 0)).due_in == 30, "the next step"


def test_a_pod_that_was_frozen_as_a_whole_is_not_blamed_for_it(tmp_path: Path, clock: Clock) -> None:
    beating(tmp_path, clock, timeout=30).step(1)
    watch = HangWatch(tmp_path, [0], clock)
    watch.look()
    clock.now += 3600
    assert watch.look() == []
    assert looked(watch, clock, 30 - LONGEST_LOOK) == []
    assert looked(watch, clock, 1) == [0]


def test_a_worker_that_was_started_and_never_begins_hangs_and_one_that_waits_for_its_peers_does_not(
    tmp_path: Path, clock: Clock
) -> None:
    watch = HangWatch(tmp_path, [0], clock)
    clock.now += 3 * OTHER_SECONDS
    assert watch.look(started=False) == []
    assert looked(watch, clock, OTHER_SECONDS + 1) == []
    assert looked(watch, clock, 1) == [0]
    beating(tmp_path, clock)
    assert watch.look() == []


def test_a_worker_that_is_only_starting_is_not_signalled(tmp_path: Path) -> None:
    """It would be ended: the handler comes with the file."""
    sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        (dump,) = collect(tmp_path, {0: sleeper.pid}, wait=0.1)
        assert (dump.text, dump.state) == ("", "was only starting")
        assert sleeper.poll() is None
    finally:
        sleeper.communicate(b"")


def test_a_process_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    stacks_file(tmp_path, 0).touch()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, gone.pid, os.WEXITED | os.WNOWAIT)
    (dump,) = collect(tmp_path, {0: gone.pid}, wait=0.1)
    assert dump.state.startswith("has ended (Z")
    gone.wait()


def test_of_a_stack_the_main_thread_counts() -> None:
    text = """Thread 0x00007f01 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 324 in wait
  File "/usr/lib/python3.11/threading.py", line 995 in _bootstrap

Current thread 0x00007f02 (most recent call first):
  File "/opt/torch/distributed/distributed_c10d.py", line 2806 in all_reduce
  File "/opt/finetune_trainer/ranks.py", line 54 in maximum
"""
    assert main_thread(text) == "distributed_c10d.py:2806 all_reduce < ranks.py:54 maximum"
    assert main_thread("") == ""


def test_a_stack_tells_no_secret_that_a_file_or_function_is_named_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASS", "hunter2-hunter2")
    text = 'Current thread 0x01 (most recent call first):\n  File "/models/hunter2-hunter2.py", line 3 in forward\n'
    assert Dump(0, 1, text).brief().text == "[redacted].py:3 forward"


def test_the_rank_that_is_behind_is_named_when_all_answer(tmp_path: Path, clock: Clock) -> None:
    for rank, step in ((0, 41), (1, 40)):
        beating(tmp_path, clock, rank, timeout=10).step(step)
    watch = HangWatch(tmp_path, [0, 1], clock)
    watch.look()
    assert looked(watch, clock, 11) == [0, 1]
    message = hang(watch.look(), watch.steps(), [])
    assert (message.outcome, message.step) == ("Hang", 41)
