"""Loss and perplexity over every learnt token of the held-out data, on all ranks."""

import math
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn import functional

from finetune_trainer.data.batches import Batch
from finetune_trainer.metrics.scores import Evaluation

PERPLEXITY_LIMIT = 700.0
"""exp() of more is beyond a float; such a model predicts nothing."""


class TokenLoss:
    """Sums on the device: the logits of one batch at a time are in memory."""

    def __init__(self) -> None:
        self._sum: Tensor | None = None
        self._tokens = 0

    def add(self, predictions: Tensor, batch: Batch, rows: np.ndarray) -> None:
        losses = functional.cross_entropy(predictions.float(), batch.targets, reduction="none")
        total = losses.double().sum()
        self._sum = total if self._sum is None else self._sum + total
        self._tokens += len(batch.targets)

    def share(self) -> tuple[float, int]:
        return (0.0 if self._sum is None else float(self._sum)), self._tokens

    def result(self, shares: list[Any]) -> Evaluation:
        tokens = sum(share[1] for share in shares)
        loss = math.fsum(share[0] for share in shares) / max(1, tokens)
        metrics = {"loss": loss, "perplexity": math.exp(min(loss, PERPLEXITY_LIMIT))}
        return Evaluation(metrics, {"tokens": tokens})
