"""Signs of life of one process. Each says within what time the next is due, so that whoever watches needs to know
nothing of steps, stages or clocks."""

import os
import statistics
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

FORMAT = struct.Struct("<QQd")
"""Number of the beat, optimizer steps done, seconds until the next is due."""
MEDIANS = 10
"""Without a time-out of the job's own, a step that takes so many times the median is a hang."""
LEAST_SECONDS = 300.0
OTHER_SECONDS = 7200.0
"""For what is no training step: downloads, data, the first evaluation, checkpoints, export."""
REMEMBERED_STEPS = 64


def heartbeat_file(folder: Path, rank: int) -> Path:
    """Where a worker leaves its signs of life for the launcher."""
    return folder / f"rank-{rank}.heartbeat"


@dataclass(frozen=True)
class Beat:
    """One sign of life."""

    number: int
    step: int
    due_in: float
    """Seconds."""


def read_beat(path: Path) -> Beat | None:
    """The newest one, or None before the first."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    return Beat(*FORMAT.unpack(content)) if len(content) == FORMAT.size else None


class Heartbeat:
    """Of this process. A beat is one write of 24 bytes to a file that is never synced: a microsecond."""

    def __init__(
        self, path: Path | None, timeout: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`timeout`: seconds without a step that are a hang; None: ten times the median step, at least five minutes."""
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600) if path else None
        self._timeout = timeout
        self._clock = clock
        self._durations: deque[float] = deque(maxlen=REMEMBERED_STEPS)
        self._number = self._step = 0
        self._since: float | None = None
        self._evaluation: float | None = None
        """Seconds of the longest one so far."""
        self.rest()

    @classmethod
    def silent(cls) -> "Heartbeat":
        """One that nobody watches."""
        return cls(None)

    def step(self, step: int) -> None:
        """Optimizer step number `step` is done."""
        now = self._clock()
        if self._since is not None:
            self._durations.append(now - self._since)
        self._since, self._step = now, step
        self._beat(self.patience)

    def rest(self) -> None:
        """What comes now is no training step, until the next one is done."""
        self._since = None
        self._beat(max(OTHER_SECONDS, self._timeout or 0.0))

    @contextmanager
    def other_work(self) -> Iterator[None]:
        """What is done in here is no training step, and does not count as a part of one."""
        began = self._since
        self.rest()
        yield
        self._go_on(began)

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """Other work that is much the same each time: from the second one on it is known how long it may take."""
        began, started = self._since, self._clock()
        self.rest()
        if self._evaluation is not None:
            self._beat(max(self.patience, LEAST_SECONDS, MEDIANS * self._evaluation))
        yield
        self._evaluation = max(self._evaluation or 0.0, self._clock() - started)
        self._go_on(began)

    def _go_on(self, began: float | None) -> None:
        if began is not None:
            self._since = self._clock()
            self._beat(self.patience)

    @property
    def patience(self) -> float:
        """Seconds that the next step may take."""
        if self._timeout is not None:
            return self._timeout
        typical = statistics.median(self._durations) if self._durations else 0.0
        return max(LEAST_SECONDS, MEDIANS * typical)

    def _beat(self, due_in: float) -> None:
        self._number += 1
        if self._descriptor is not None:
            os.pwrite(self._descriptor, FORMAT.pack(self._number, self._step, due_in), 0)
