"""The course of a run: what the log said, kept over restarts, for the evaluation report."""

from dataclasses import dataclass, field
from typing import Any

LIMIT = 2000
"""Points; a longer run keeps every second, fourth, eighth … of them, and its newest."""


@dataclass
class History:
    """Loss and learning rate at each log line, metrics at each validation; JSON all through."""

    training: list[dict[str, float]] = field(default_factory=list)
    """step, loss (mean since the last point), learningRate, gradientNorm, tokensPerSecond."""
    validation: list[dict[str, float]] = field(default_factory=list)
    """step and every metric."""

    def log(self, step: int, **values: float) -> None:
        """One log line."""
        self.training = _thinned([*self.training, {"step": step, **values}])

    def evaluated(self, step: int, metrics: dict[str, float]) -> None:
        """One evaluation on the validation data."""
        self.validation = _thinned([*self.validation, {"step": step, **metrics}])

    def wire(self) -> dict[str, Any]:
        """For a checkpoint and for the report."""
        return {"training": self.training, "validation": self.validation}

    def restore(self, saved: dict[str, Any]) -> None:
        """Goes on from a checkpoint, which knows nothing of what came after it."""
        self.training, self.validation = list(saved["training"]), list(saved["validation"])


def _thinned(points: list[dict[str, float]]) -> list[dict[str, float]]:
    """The first and the last point always stay."""
    return points if len(points) <= LIMIT else [*points[:-1:2], points[-1]]
