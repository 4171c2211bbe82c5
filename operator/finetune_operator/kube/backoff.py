"""Waiting longer after every failure, never in step with the other clients."""

import random
from dataclasses import dataclass


@dataclass
class Backoff:
    """Exponential from `base` to `cap` seconds; each wait is drawn from the upper half of its step."""

    base: float = 0.8
    cap: float = 30.0
    factor: float = 2.0
    failures: int = 0

    def next(self) -> float:
        """Seconds to wait after one more failure."""
        step = min(self.cap, self.base * self.factor ** min(self.failures, 64))
        self.failures += 1
        return step * (0.5 + random.random() / 2)

    def reset(self) -> None:
        self.failures = 0
