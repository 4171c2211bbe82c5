"""Our trainer against transformers' Trainer, TRL's SFTTrainer and a bare loop: python -m benchmarks.rivals

The same model, the same texts, one pass, the same number of tokens a step; on a GPU where there is one. Each contender
is a process of its own, for memory's sake, and they take turns, so that whatever else the machine does hits all of
them. A rate is the median over the rounds, a ratio the median of the ratios within a round. On a CPU rates are per
second of the contender's own CPU time, which other work disturbs least; on a GPU they are per second of the wall clock.
"""

import multiprocessing
import os
import statistics
import sys
from multiprocessing.connection import Connection
from typing import Any

import torch

from benchmarks.contenders import CONTENDERS, CPU, GPU, Setting, Spent, flops_a_token, texts_of
from benchmarks.report import Row, table

OURS = "ours"
GOALS = {"HF Trainer, defaults": 1.5, "TRL SFTTrainer, packed": 1.0, "bare PyTorch loop, packed": 0.95}
MIB = 2**20


def serve(name: str, setting: Setting, line: Connection) -> None:
    """A contender's process: round numbers in, costs out; None ends it."""
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    sys.stdout = sys.stderr
    while (number := line.recv()) is not None:
        line.send(CONTENDERS[name](setting, texts_of(setting, number)))


def race(setting: Setting, rounds: int) -> dict[str, list[Spent]]:
    """All contenders, one round after the other; the first one warms up and is left out."""
    context = multiprocessing.get_context("spawn")
    lines: dict[str, Connection] = {}
    processes: list[Any] = []
    for name in CONTENDERS:
        lines[name], theirs = context.Pipe()
        processes.append(context.Process(target=serve, args=(name, setting, theirs), daemon=True))
        processes[-1].start()
        theirs.close()  # so that its end is noticed here
    spent: dict[str, list[Spent]] = {name: [] for name in CONTENDERS}
    for number in range(rounds + 1):
        for name in list(lines) if number % 2 else reversed(lines):
            lines[name].send(number)
            spent[name].append(lines[name].recv())
    for line, process in zip(lines.values(), processes, strict=True):
        line.send(None)
        process.join()
    return {name: results[1:] for name, results in spent.items()}


def rate(spent: Spent, setting: Setting) -> float:
    """Tokens a second."""
    return spent.tokens / (spent.wall_seconds if setting.peak_flops else spent.cpu_seconds)


def ratio(spent: dict[str, list[Spent]], rival: str, setting: Setting) -> float:
    """How many times faster ours is."""
    pairs = zip(spent[OURS], spent[rival], strict=True)
    return statistics.median(rate(mine, setting) / rate(theirs, setting) for mine, theirs in pairs)


def run(rounds: int = 5, setting: Setting | None = None) -> list[Row]:
    """A row a contender, then a row a goal."""
    setting = setting or (GPU if torch.cuda.is_available() else CPU)
    spent = race(setting, rounds)
    flops = flops_a_token(setting, texts_of(setting, 0)) if setting.peak_flops else 0.0
    rows = [_rates(name, results, setting, flops) for name, results in spent.items()]
    for rival, goal in GOALS.items():
        value = ratio(spent, rival, setting)
        rows.append(Row("trainers", f"ours / {rival}", f"{value:.2f}", f"≥ {goal}", value >= goal))
    return rows


def _rates(name: str, spent: list[Spent], setting: Setting, flops: float) -> Row:
    rates = statistics.median(rate(one, setting) for one in spent)
    wall = statistics.median(one.tokens / one.wall_seconds for one in spent)
    peak = max(one.peak_bytes for one in spent) / MIB
    used = f", MFU {rates * flops / setting.peak_flops:.1%}" if setting.peak_flops else f" of CPU, {wall:,.0f} of wall"
    return Row("trainers", name, f"{rates:,.0f} tokens/s{used}, peak {peak:,.0f} MiB")


if __name__ == "__main__":
    print(table(run()))
