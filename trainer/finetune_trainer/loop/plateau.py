"""ReduceOnPlateau: the share of the learning rate that is left."""

from dataclasses import dataclass, field
from typing import Any

from finetune_api.optimization import Plateau
from finetune_trainer.loop.best_model import BestModel, watched
from finetune_trainer.metrics.scores import Evaluation


@dataclass
class PlateauFactor:
    """Multiplied by `settings.factor` after every `settings.patience` evaluations without improvement."""

    settings: Plateau | None
    value: float = 1.0
    _best: BestModel = field(default_factory=BestModel)

    def __post_init__(self) -> None:
        if self.settings:
            self._best = BestModel(self.settings.metric, self.settings.patience)

    def note(self, evaluation: Evaluation, step: int) -> bool:
        """Takes in an evaluation; True when the learning rate falls. Raises DataError when it has no such metric."""
        if self.settings is None:
            return False
        self._best.note(watched(evaluation, self.settings.metric, "training.plateau.metric"), step)
        if not self._best.exhausted:
            return False
        self.value *= self.settings.factor
        self._best.without_improvement = 0
        return True

    def counters(self) -> dict[str, Any]:
        """JSON for a checkpoint."""
        return {"value": self.value, "best": self._best.counters()}

    def restore(self, saved: dict[str, Any]) -> None:
        """Goes on from a checkpoint."""
        self.value = saved["value"]
        self._best.restore(saved["best"])
