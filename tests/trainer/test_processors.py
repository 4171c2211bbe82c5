"""Threads follow from the processors that a pod may use, not from those of the machine."""

import os
from pathlib import Path

import pytest

from finetune_trainer.processors import threads_per_process, usable_processors

ALL = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("150000 100000\n", 2), ("50000 100000\n", 1), ("99900000 100000", ALL), ("max 100000\n", ALL), ("", ALL)],
)
def test_a_pods_cpu_limit_is_respected(limit: str, expected: int, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(limit)
    assert usable_processors(tmp_path / "cpu.max") == min(expected, ALL)


def test_without_a_limit_the_cpu_set_counts(tmp_path: Path) -> None:
    assert usable_processors(tmp_path / "none") == ALL


def test_processors_are_shared_out() -> None:
    assert threads_per_process(processes=2, processors=9) == 4
    assert threads_per_process(processes=8, processors=4) == 1
