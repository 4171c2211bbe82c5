"""The learning rate as a pure function of the step: nothing to save, nothing to go stale on resume."""

import math
from dataclasses import dataclass

from finetune_api.training import Training


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up to `peak`, then constant, or down to zero at the last step."""

    kind: str
    peak: float
    total_steps: int
    warmup_steps: int

    def at(self, step: int) -> float:
        """Learning rate of optimizer step `step`, counted from 0."""
        if step < self.warmup_steps:
            return self.peak * (step + 1) / (self.warmup_steps + 1)
        if self.kind == "Constant":
            return self.peak
        done = (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)
        if self.kind == "Linear":
            return self.peak * max(0.0, 1.0 - done)
        return self.peak * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))


def schedule_of(training: Training, total_steps: int) -> Schedule:
    """`warmup` below 1 is a share of all steps."""
    warmup = training.warmup
    steps = math.ceil(warmup * total_steps) if warmup < 1 else round(warmup)
    return Schedule(training.scheduler, training.learning_rate, total_steps, min(steps, total_steps))
