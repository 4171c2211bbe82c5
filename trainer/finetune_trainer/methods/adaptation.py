"""A model that a method has prepared, and what the method does besides plain gradient descent."""

from pathlib import Path
from typing import Any

from torch import Tensor

from finetune_trainer.ranks import Ranks


class Adaptation:
    """Does nothing more: what most methods need. The training loop calls it on every rank at the same step."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def penalty(self) -> Tensor | None:
        """A term of the objective that is a function of the weights alone, once a step."""
        return None

    def after_step(self, step: int) -> None:
        """Optimizer step `step` (from 1) is done; its gradients are still there."""

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold besides the trained weights; the same on every rank."""
        return {}

    def agree(self, ranks: Ranks) -> None:
        """Takes from rank 0 what ranks may have computed differently; every rank calls it before the first step."""

    def restore(self, saved: dict[str, Tensor]) -> None:
        """Goes on from the state of a checkpoint."""

    def complete_export(self, folder: Path) -> None:
        """Finishes the files that PEFT has written."""
