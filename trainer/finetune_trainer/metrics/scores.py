"""What an evaluation gathers and gives."""

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from finetune_trainer.data.batches import Batch


@dataclass(frozen=True)
class Evaluation:
    """Metrics by name, and what a person wants to see beside them."""

    metrics: dict[str, float]
    details: dict[str, Any]
    not_computed: dict[str, str] = field(default_factory=dict)
    """Metrics that this data does not allow, and why."""


class Scores(Protocol):
    """Gathers what an evaluation needs, batch by batch; adding must not wait for the device."""

    def add(self, predictions: Any, batch: Batch, rows: np.ndarray) -> None:
        """Take in what `Task.predictions` gave for one batch; `rows` are its places in the held-out data."""

    def share(self) -> Any:
        """What this rank found, to be gathered with the other ranks'."""

    def result(self, shares: list[Any]) -> Evaluation:
        """Metrics over all ranks' shares."""
