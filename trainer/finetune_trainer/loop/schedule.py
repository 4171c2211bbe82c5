"""The learning rate as a pure function of the step: nothing to save, nothing to go stale on resume."""

import math
from dataclasses import dataclass

from finetune_api.optimization import Scheduler
from finetune_api.schedule_lengths import DEFAULT_DECAY, schedule_problem
from finetune_api.training import Training
from finetune_trainer.errors import ConfigurationError


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up to `peak`, then constant, or down to `floor` at the last step."""

    kind: Scheduler
    peak: float
    total_steps: int
    warmup_steps: int
    floor: float = 0.0
    decay_steps: int = 0
    """WarmupStableDecay: how long it falls at the end."""

    def at(self, step: int, factor: float = 1.0) -> float:
        """Learning rate of optimizer step `step`, counted from 0. `factor` is what a plateau has left of it."""
        if step < self.warmup_steps:
            return self.peak * (step + 1) / (self.warmup_steps + 1)
        if self.kind == "ReduceOnPlateau":
            return max(self.floor, self.peak * factor)
        return self.floor + (self.peak - self.floor) * self._share(step)

    def _share(self, step: int) -> float:
        """How much is left of the way down, from 1 to 0."""
        if self.kind == "Constant":
            return 1.0
        if self.kind == "WarmupStableDecay":
            return min(1.0, (self.total_steps - step) / max(1, self.decay_steps))
        done = min(1.0, (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps))
        return 1.0 - done if self.kind == "Linear" else 0.5 * (1.0 + math.cos(math.pi * done))


def check_schedule(training: Training, total_steps: int) -> None:
    """Once the data tells how many steps there are. Raises ConfigurationError when warm-up and decay have no room."""
    source = "the steps of this run"
    problem = schedule_problem(training.warmup, training.decay, training.scheduler, total_steps, source)
    if problem:
        raise ConfigurationError(f"training.{problem}")


def schedule_of(training: Training, total_steps: int) -> Schedule:
    """`warmup` and `decay` below 1 are shares of all steps: rounded up, but no warm-up is the whole run."""
    warmup = min(_steps(training.warmup, total_steps), total_steps - 1)
    falls = DEFAULT_DECAY if training.decay is None else training.decay
    decay = min(_steps(falls, total_steps), total_steps - warmup)
    return Schedule(training.scheduler, training.learning_rate, total_steps, warmup, training.min_learning_rate, decay)


def _steps(value: float, total: int) -> int:
    return math.ceil(value * total) if value < 1 else round(value)
