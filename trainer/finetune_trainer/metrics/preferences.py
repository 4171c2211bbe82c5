"""How often the preferred completion has the greater reward, and by how much."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from finetune_trainer.data.batches import Batch
from finetune_trainer.data.encoded import Encoded
from finetune_trainer.metrics.scores import Evaluation

Pair = tuple[float, float, bool]
"""Rewards of the preferred and the other completion, and whether the two still differ where they were cut."""


class PairScores:
    """Keeps two rewards a pair."""

    def __init__(self, encoded: Encoded) -> None:
        self._encoded = encoded
        self._parts: list[tuple[np.ndarray, Tensor]] = []

    def add(self, predictions: Tensor, batch: Batch, rows: np.ndarray) -> None:
        """`predictions` are rewards, (2 × pairs): of all that were preferred, then of all others."""
        self._parts.append((rows, predictions.double()))

    def share(self) -> list[Pair]:
        return [
            (preferred, other, bool(self._encoded.targets[row]))
            for rows, rewards in self._parts
            for row, (preferred, other) in zip(rows, rewards.view(2, -1).T.tolist(), strict=True)
        ]

    def result(self, shares: list[Any]) -> Evaluation:
        return pair_metrics(sorted(pair for share in shares for pair in share))


def pair_metrics(pairs: list[Pair]) -> Evaluation:
    """Equal rewards count as half right, as in the area under a ROC curve.

    A pair of which a cut left no difference counts as wrong in `accuracy`; margin, loss and rewards are of the others.
    """
    scored = [(preferred, other) for preferred, other, differs in pairs if differs]
    ahead = [preferred - other for preferred, other in scored]
    count = max(1, len(scored))
    losses = -functional.logsigmoid(torch.tensor(ahead, dtype=torch.float64))
    metrics = {
        "accuracy": (sum(margin > 0 for margin in ahead) + sum(margin == 0 for margin in ahead) / 2)
        / max(1, len(pairs)),
        "margin": math.fsum(ahead) / count,
        "loss": math.fsum(losses.tolist()) / count,
    }
    details = {
        "pairs": len(pairs),
        "scoredPairs": len(scored),
        "chosenReward": math.fsum(pair[0] for pair in scored) / count,
        "rejectedReward": math.fsum(pair[1] for pair in scored) / count,
    }
    return Evaluation(metrics, details)
