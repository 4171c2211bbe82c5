"""Every benchmark runs to its table; what they measure is for a quiet machine."""

import os
import subprocess
import sys
from dataclasses import replace

from benchmarks import trainer_loop
from exhaustive import exhaustive


def test_the_control_loop_is_measured() -> None:
    small = os.environ | {"BENCH_JOBS": "5", "BENCH_ROUNDS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "control_loop"], env=small, capture_output=True, text=True
    )
    assert "CPU against bare aiohttp" in done.stdout, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if "until its Job exists" in line)
    assert "MISSED" not in line


def test_the_training_loop_is_measured() -> None:
    rows = trainer_loop.run(steps=1, rounds=1)
    assert all("tokens/s" in row.value for row in rows)


@exhaustive
def test_whole_life_cycles_are_measured() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scale", "5", "--run-seconds", "2"], capture_output=True, text=True
    )
    assert "whole life cycles a second" in done.stdout, done.stderr
    assert "| 5 jobs    | events dropped" in done.stdout


@exhaustive
def test_every_trainer_is_given_the_same_tokens() -> None:
    from benchmarks.contenders import CONTENDERS, CPU, texts_of

    small = replace(CPU, row=64, median=20, texts=6)
    texts = texts_of(small, 1)
    spent = {name: contender(small, texts) for name, contender in CONTENDERS.items()}
    assert {one.tokens for one in spent.values()} == {sum(map(len, texts))}
    assert all(one.cpu_seconds > 0 for one in spent.values())
