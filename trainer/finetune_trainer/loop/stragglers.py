"""Ranks that hold the others up.

All ranks take a step in the same time, for each waits for the slowest. What tells them apart is the time that each
spends on its own, before it first waits for the others: for its data, and in its forward passes. A strategy whose
forward pass gathers weights waits there too, so under it fewer stragglers are found, never wrong ones.
"""

import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from finetune_trainer.loop.process_group import sum_over_ranks

SLOWDOWN = 1.5
"""Times the median of the other ranks."""
SHARE = 0.1
"""Of the whole step that the difference must make up: a rank that waits anyway holds nobody up."""
READINGS = 3
"""In a row: a rank is not named for one bad moment."""


class OwnTime:
    """Seconds that this rank needs for a step until it waits for the others, on the device's own clock."""

    def __init__(self, device: torch.device, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._on_gpu = device.type == "cuda"
        self._began = 0.0
        self._start: torch.cuda.Event | None = None
        self._spans: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._seconds = 0.0
        self._steps = 0

    def begin(self) -> None:
        """A step begins."""
        self._began = self._clock()
        self._start = self._mark()

    def end(self) -> None:
        """The last forward pass of the step is done, or, on a GPU, under way."""
        self._steps += 1
        if self._start is not None and (end := self._mark()) is not None:
            self._spans.append((self._start, end))
        else:
            self._seconds += self._clock() - self._began

    def read(self) -> float:
        """Mean of the steps since the last reading. On a GPU it waits for them."""
        if self._spans:
            self._spans[-1][1].synchronize()
            self._seconds += sum(start.elapsed_time(end) for start, end in self._spans) / 1000
        mean = self._seconds / max(1, self._steps)
        self._spans, self._seconds, self._steps = [], 0.0, 0
        return mean

    def _mark(self) -> "torch.cuda.Event | None":
        if not self._on_gpu:
            return None
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


@dataclass(frozen=True)
class Straggler:
    """A rank, and how many times slower than the median of the others it is."""

    rank: int
    slowdown: float


class Stragglers:
    """Names a rank once it was slow at several readings in a row."""

    def __init__(self) -> None:
        self._seen: Counter[int] = Counter()

    def note(self, own: Sequence[float], step_seconds: float) -> list[Straggler]:
        """`own`: seconds by rank; `step_seconds`: of a whole step. Who is to be named now, the slowest first."""
        slow = [one for one in slowdowns(own) if one.slowdown >= SLOWDOWN]
        slow = [one for one in slow if own[one.rank] * (1 - 1 / one.slowdown) >= SHARE * step_seconds]
        self._seen = Counter({one.rank: self._seen[one.rank] + 1 for one in slow})
        named = [one for one in slow if self._seen[one.rank] >= READINGS]
        return sorted(named, key=lambda one: -one.slowdown)


def slowdowns(own: Sequence[float]) -> list[Straggler]:
    """Every rank against the median of the others."""
    if len(own) < 2:
        return []
    others = [statistics.median([*own[:rank], *own[rank + 1 :]]) for rank in range(len(own))]
    return [Straggler(rank, own[rank] / max(others[rank], 1e-9)) for rank in range(len(own))]


def of_every_rank(value: float, rank: int, world_size: int, device: torch.device) -> list[float]:
    """This number of every rank, on every rank."""
    values = torch.zeros(world_size, dtype=torch.float64, device=device)
    values[rank] = value
    return [float(one) for one in sum_over_ranks(values)]
