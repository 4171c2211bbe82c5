"""Which evaluation was the best, and whether it is time to stop."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from finetune_api.metrics import better
from finetune_trainer.errors import DataError
from finetune_trainer.metrics.scores import Evaluation


def watched(evaluation: Evaluation, metric: str, field: str) -> float:
    """The value of the metric that `field` names.

    Raises:
        DataError: The validation data does not allow it, and never will: each evaluation sees the same data.
    """
    if metric in evaluation.metrics:
        return evaluation.metrics[metric]
    reason = evaluation.not_computed.get(metric, "the evaluation does not give it")
    there = ", ".join(evaluation.metrics) or "none"
    raise DataError(f"{field} {metric!r} cannot be watched on the validation data: {reason}; choose one of {there}")


@dataclass
class BestModel:
    """Follows one metric over the evaluations."""

    metric: str = "loss"
    patience: int | None = None
    """Evaluations without improvement before the run ends; None never ends it."""
    value: float | None = None
    step: int = 0
    without_improvement: int = 0

    def note(self, value: float, step: int) -> bool:
        """Takes in an evaluation; True when it is the best so far. What is no finite number never is."""
        improved = math.isfinite(value) and self._improves(value)
        if improved:
            self.value, self.step, self.without_improvement = value, step, 0
        else:
            self.without_improvement += 1
        return improved

    def _improves(self, value: float) -> bool:
        return self.value is None or better(self.metric, value, self.value)

    @property
    def exhausted(self) -> bool:
        """Whether early stopping ends the run."""
        return self.patience is not None and self.without_improvement >= self.patience

    def counters(self) -> dict[str, Any]:
        """JSON for a checkpoint."""
        return asdict(self)

    def restore(self, saved: dict[str, Any]) -> None:
        """Goes on from a checkpoint; metric and patience are the job's."""
        self.value, self.step = saved["value"], saved["step"]
        self.without_improvement = saved["without_improvement"]
