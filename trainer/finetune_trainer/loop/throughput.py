"""Tokens per second of training, pauses excluded."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Throughput:
    """Counts the tokens and the time between two readings; evaluations and checkpoints stop the clock."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._since = clock()
        self._paused = 0.0
        self._tokens = 0
        self._steps = 0
        self.seconds_per_step = 0.0

    def count(self, tokens: int) -> None:
        """One step is done."""
        self._tokens += tokens
        self._steps += 1

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time in here does not count."""
        started = self._clock()
        try:
            yield
        finally:
            self._paused += self._clock() - started

    def read(self) -> float:
        """Tokens per second since the last reading."""
        now = self._clock()
        elapsed = max(now - self._since - self._paused, 1e-9)
        rate = self._tokens / elapsed
        self.seconds_per_step = elapsed / max(1, self._steps)
        self._since, self._paused, self._tokens, self._steps = now, 0.0, 0, 0
        return rate
