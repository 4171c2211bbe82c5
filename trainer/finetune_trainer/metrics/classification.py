"""What a classification is measured by, over every held-out example of all ranks."""

import numpy as np
import torch
from torch import Tensor

from finetune_trainer.data.batches import Batch
from finetune_trainer.metrics.scores import Evaluation

Share = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Rows, log-probabilities, classes."""


class ClassScores:
    """Keeps one row of log-probabilities an example, never the hidden states."""

    def __init__(self, labels: list[str]) -> None:
        self._labels = labels
        self._parts: list[tuple[np.ndarray, Tensor, Tensor]] = []

    def add(self, predictions: Tensor, batch: Batch, rows: np.ndarray) -> None:
        self._parts.append((rows, torch.log_softmax(predictions.float(), dim=-1), batch.targets))

    def share(self) -> Share:
        if not self._parts:
            return np.zeros(0, np.int64), np.zeros((0, len(self._labels)), np.float32), np.zeros(0, np.int64)
        rows, scores, targets = zip(*self._parts, strict=True)
        return np.concatenate(rows), torch.cat(scores).cpu().numpy(), torch.cat(targets).cpu().numpy()

    def result(self, shares: list[Share]) -> Evaluation:
        # scikit-learn brings SciPy and pandas, seconds of every start; most processes never get here.
        from finetune_trainer.metrics.class_metrics import class_metrics

        rows, scores, targets = (np.concatenate(part) for part in zip(*shares, strict=True))
        order = np.argsort(rows)
        return class_metrics(scores[order], targets[order], self._labels)
