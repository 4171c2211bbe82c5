"""A run that was killed and resumed equals the unbroken one, bit by bit."""

import json
import random
import signal
from pathlib import Path

import pytest

from exhaustive import exhaustive
from trainer.jobs import FULL, LORA, job, start

STEPS = 8


@pytest.mark.parametrize("method", [LORA, pytest.param(FULL, marks=exhaustive)], ids=["lora", "full"])
def test_two_processes_killed_at_a_random_step_go_on_as_if_nothing_had_happened(
    method: dict, tiny_bert: Path, tickets: Path, tmp_path: Path
) -> None:
    settings = {
        "method": method,
        "dataset": {"split": {"validation": 0.1, "test": 0.1}},
        "checkpoint": {"everySteps": 2},
        "microBatchSize": 2,
        "maxSteps": STEPS,
        "evaluateEverySteps": 3,
        "earlyStopping": {"metric": "f1", "patience": 5},
    }
    unbroken = start(job(tmp_path / "a", tiny_bert, tickets, **settings), tmp_path / "a", 2)
    assert unbroken.wait() == [0, 0]

    # The checkpoint of step 4 begins once that of step 2 is whole.
    killed_at, victim = random.randint(5, STEPS - 1), random.randint(0, 1)
    broken_job = job(tmp_path / "b", tiny_bert, tickets, **settings)
    broken = start(broken_job, tmp_path / "b", 2, end_rank=victim, end_at=killed_at, by=signal.SIGKILL)
    codes = broken.wait()
    assert codes[victim] == -signal.SIGKILL, f"killed at {killed_at}"
    assert codes[1 - victim] not in (0, None)
    resumed = start(broken_job, tmp_path / "b", 2)
    assert resumed.wait() == [0, 0]

    expected = unbroken.losses
    assert list(expected) == list(range(1, STEPS + 1))
    assert min(resumed.losses) > 1, "it began again instead of resuming"
    assert {**broken.losses, **resumed.losses} == expected, f"killed at step {killed_at}, rank {victim}"
    ours, theirs = resumed.result(), unbroken.result()
    assert ours["metrics"] == theirs["metrics"]


def test_sigterm_to_one_of_two_processes_saves_at_a_common_step_and_resumes_exactly(
    tiny_gpt2: Path, questions: Path, tmp_path: Path
) -> None:
    """Before an evaluation, which neither begins."""
    settings = {
        "task": "TextGeneration",
        "maxSteps": STEPS,
        "method": FULL,
        "logEverySteps": 3,
        "dataset": {"split": {"validation": 0.2}},
        "evaluateEverySteps": 3,
    }
    unbroken = start(job(tmp_path / "a", tiny_gpt2, questions, **settings), tmp_path / "a", 2)
    assert unbroken.wait() == [0, 0]

    stopped_job = job(tmp_path / "b", tiny_gpt2, questions, **settings)
    stopped = start(stopped_job, tmp_path / "b", 2, end_rank=0, end_at=3, by=signal.SIGTERM)
    assert stopped.wait() == [75, 75]
    resumed = start(stopped_job, tmp_path / "b", 2)
    assert resumed.wait() == [0, 0]
    assert {**stopped.losses, **resumed.losses} == unbroken.losses
    evaluated = [json.loads((tmp_path / place / "output/training_history.json").read_text()) for place in "ab"]
    assert evaluated[0]["validation"] == evaluated[1]["validation"]
