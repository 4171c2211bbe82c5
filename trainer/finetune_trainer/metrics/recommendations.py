"""How far ratings are from the right ones; how high the right item stands in a ranking of all."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from finetune_api.metrics import ranking_metrics
from finetune_trainer.data.batches import Batch
from finetune_trainer.metrics.scores import Evaluation

Share = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Rows, predictions, targets."""


class _Numbers:
    """One prediction an example."""

    def __init__(self) -> None:
        self._parts: list[tuple[np.ndarray, Tensor, Tensor]] = []

    def add(self, predictions: Tensor, batch: Batch, rows: np.ndarray) -> None:
        self._parts.append((rows, predictions, batch.targets))

    def share(self) -> Share:
        if not self._parts:
            return np.zeros(0, np.int64), np.zeros(0), np.zeros(0)
        rows, predictions, targets = zip(*self._parts, strict=True)
        return np.concatenate(rows), torch.cat(predictions).cpu().numpy(), torch.cat(targets).cpu().numpy()

    def result(self, shares: list[Share]) -> Evaluation:
        rows, predictions, targets = (np.concatenate(part) for part in zip(*shares, strict=True))
        order = np.argsort(rows)
        return self.evaluation(predictions[order].astype(np.float64), targets[order].astype(np.float64))

    def evaluation(self, predictions: np.ndarray, targets: np.ndarray) -> Evaluation:
        """Of all examples."""
        raise NotImplementedError


class RatingScores(_Numbers):
    """Of ratings."""

    def evaluation(self, predictions: np.ndarray, targets: np.ndarray) -> Evaluation:
        errors = predictions - targets
        squared = float(np.square(errors).mean())
        metrics = {"rmse": squared**0.5, "mae": float(np.abs(errors).mean()), "loss": squared}
        return Evaluation(metrics, _details(targets))


class RankScores(_Numbers):
    """Of places in a ranking of the whole catalogue, not of a sample of it (Krichene and Rendle 2020).

    There is no loss: that of training is of items drawn beside each.
    """

    def __init__(self, items: int, top_k: int) -> None:
        super().__init__()
        self._items, self._top_k = items, top_k

    def evaluation(self, predictions: np.ndarray, targets: np.ndarray) -> Evaluation:
        hit = predictions <= self._top_k
        gains = np.where(hit, 1 / np.log2(predictions + 1), 0.0)
        hit_rate, ndcg = ranking_metrics(self._top_k)
        metrics = {hit_rate: float(hit.mean()), ndcg: float(gains.mean())}
        details = {**_details(targets), "items": self._items, "medianRank": float(np.median(predictions))}
        return Evaluation(metrics, details)


def _details(targets: np.ndarray) -> dict[str, Any]:
    return {"examples": len(targets)}
