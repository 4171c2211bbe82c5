"""How often the preferred completion has the greater reward, and by how much."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from finetune_trainer.data.batches import Batch
from finetune_trainer.metrics.scores import Evaluation


class PairScores:
    """Keeps two rewards a pair."""

    def __init__(self) -> None:
        self._parts: list[Tensor] = []

    def add(self, predictions: Tensor, batch: Batch, rows: np.ndarray) -> None:
        """`predictions` are rewards, (2 × pairs): of all that were preferred, then of all others."""
        self._parts.append(predictions.double())

    def share(self) -> list[tuple[float, float]]:
        return [tuple(pair) for part in self._parts for pair in part.view(2, -1).T.tolist()]

    def result(self, shares: list[Any]) -> Evaluation:
        return pair_metrics(sorted(pair for share in shares for pair in share))


def pair_metrics(pairs: list[tuple[float, float]]) -> Evaluation:
    """Of (preferred, other) rewards. Equal ones count as half right, as in the area under a ROC curve."""
    ahead = [preferred - other for preferred, other in pairs]
    count = max(1, len(pairs))
    losses = -functional.logsigmoid(torch.tensor(ahead, dtype=torch.float64))
    metrics = {
        "accuracy": (sum(margin > 0 for margin in ahead) + sum(margin == 0 for margin in ahead) / 2) / count,
        "margin": math.fsum(ahead) / count,
        "loss": math.fsum(losses.tolist()) / count,
    }
    details = {
        "pairs": len(pairs),
        "chosenReward": math.fsum(pair[0] for pair in pairs) / count,
        "rejectedReward": math.fsum(pair[1] for pair in pairs) / count,
    }
    return Evaluation(metrics, details)
