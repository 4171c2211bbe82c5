"""Whose failure was the first, when several ranks end at once."""

import signal
from pathlib import Path

import pytest

from finetune_api.reports import TerminationMessage
from finetune_trainer.launch.verdict import Surroundings, WorkerEnd, exit_code, judge, noted, oom_kills

QUIET = Surroundings()
CUT = "RuntimeError: [gloo/transport/tcp/pair.cc:537] Read error [127.0.0.1]:3998: Connection reset by peer"


def end(rank: int, status: int, outcome: str = "", message: str = "", when: float = 0.0, by_us: bool = False):
    said = TerminationMessage(outcome=outcome, message=message, rank=rank) if outcome else None
    return WorkerEnd(rank, status, said, when, by_us)


def test_success_carries_rank_zeros_words() -> None:
    message = judge([end(1, 0, "Succeeded"), end(0, 0, "Succeeded", "all well")], QUIET)

    assert (message.outcome, message.message, message.rank, exit_code(message)) == ("Succeeded", "all well", 0, 0)


def test_a_rank_that_died_without_a_word_goes_before_its_peers_cut_connection() -> None:
    message = judge([end(0, 1, "Crash", CUT, when=1.0), end(1, -9)], QUIET)

    assert (message.outcome, message.rank, exit_code(message)) == ("Crash", 1, 1)
    assert message.message == "rank 1 was ended by SIGKILL without a word"


def test_a_named_failure_goes_before_everything_also_when_it_came_later() -> None:
    ends = [end(0, 1, "Crash", CUT, when=1.0), end(1, 3, "DataError", "line 3", when=2.0), end(2, -9, by_us=True)]

    assert judge(ends, QUIET).message == "line 3"


def test_a_bug_goes_before_the_cut_connections_it_caused() -> None:
    ends = [end(0, 1, "Crash", CUT, when=1.0), end(1, 1, "Crash", "ZeroDivisionError", when=1.1)]

    assert judge(ends, QUIET).rank == 1


def test_of_two_equal_failures_the_first_counts() -> None:
    ends = [end(0, 4, "OutOfMemory", "b", when=2.0), end(1, 4, "OutOfMemory", "a", when=1.0)]

    message = judge(ends, QUIET)

    assert (message.message, exit_code(message)) == ("a", 4)


def test_a_kill_while_the_kernel_killed_for_memory_is_out_of_memory() -> None:
    message = judge([end(0, 1, "Crash", CUT), end(1, -9)], Surroundings(oom_kills=1))

    assert (message.outcome, exit_code(message)) == ("OutOfMemory", 4)
    assert "its model was not loaded yet" in message.message
    assert "raise resources.limits.memory" in message.message


def test_who_is_killed_for_memory_has_noted_what_filled_it(tmp_path: Path) -> None:
    (tmp_path / "note").write_text("weights 8 MiB. Try next: less")
    killed = WorkerEnd(1, -9, memory=noted(tmp_path / "note"))

    message = judge([end(0, 1, "Crash", CUT), killed], Surroundings(oom_kills=1))

    assert message.message.endswith("the container ran out of memory: weights 8 MiB. Try next: less")
    assert noted(tmp_path / "none") == ""


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT])
def test_other_deadly_signals_are_crashes_also_while_stopping(number: signal.Signals) -> None:
    message = judge([end(0, -number)], Surroundings(stop_requested=True))

    assert (message.outcome, exit_code(message)) == ("Crash", 1)
    assert number.name in message.message


def test_a_worker_that_was_stopped_before_it_could_listen_is_preempted() -> None:
    message = judge([end(0, -signal.SIGTERM)], Surroundings(stop_requested=True))

    assert (message.outcome, exit_code(message)) == ("Preempted", 75)
    assert "while it was starting" in message.message


def test_an_exit_code_speaks_for_a_worker_that_left_no_message() -> None:
    assert judge([end(0, 4)], QUIET).outcome == "OutOfMemory"
    assert judge([end(0, 17)], QUIET).outcome == "Crash"
    assert "exit code 17" in judge([end(0, 17)], QUIET).message


def test_success_that_ended_badly_is_no_success() -> None:
    message = judge([end(0, -11, "Succeeded")], QUIET)

    assert message.outcome == "Crash"
    assert "SIGSEGV" in message.message


def test_kills_for_memory_are_read_from_the_cgroup(tmp_path: Path) -> None:
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 7\noom 3\noom_kill 2\noom_group_kill 1\n")

    assert oom_kills(tmp_path / "memory.events") == 2
    assert oom_kills(tmp_path / "nothing") == 0
