"""Accuracy, precision, recall, F1, AUC, loss and confusion matrix, over every held-out example of all ranks."""

from typing import Any

import numpy as np
import torch
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, roc_auc_score
from torch import Tensor

from finetune_trainer.data.batches import Batch
from finetune_trainer.metrics.roc import roc_curves
from finetune_trainer.metrics.scores import Evaluation

NAMED_LABELS = 5
"""So many absent labels an error names."""
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
        rows, scores, targets = (np.concatenate(part) for part in zip(*shares, strict=True))
        order = np.argsort(rows)
        return class_metrics(scores[order], targets[order], self._labels)


def class_metrics(scores: np.ndarray, targets: np.ndarray, labels: list[str]) -> Evaluation:
    """Macro averages: a rare class weighs as much as a common one. `scores` are log-probabilities."""
    predicted = scores.argmax(axis=1)
    places = np.arange(len(labels))
    per_class = precision_recall_fscore_support(targets, predicted, labels=places, zero_division=0)
    precision, recall, f1, support = per_class
    metrics = {
        "accuracy": float((predicted == targets).mean()),
        "precision": float(precision.mean()),
        "recall": float(recall.mean()),
        "f1": float(f1.mean()),
        "loss": float(-scores[np.arange(len(targets)), targets].astype(np.float64).mean()),
    }
    auc = area_under_curve(scores, targets, len(labels))
    not_computed = {}
    if auc is not None:
        metrics["auc"] = auc
    else:
        not_computed["auc"] = why_no_area(support, labels)
    details: dict[str, Any] = {
        "examples": len(targets),
        "labels": labels,
        "confusionMatrix": confusion_matrix(targets, predicted, labels=places).tolist(),
        "perClass": {
            label: {
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
                "examples": int(support[i]),
            }
            for i, label in enumerate(labels)
        },
        "roc": roc_curves(scores, targets, labels),
    }
    return Evaluation(metrics, details, not_computed)


def why_no_area(support: np.ndarray, labels: list[str]) -> str:
    """The reason why there is no AUC, and the mend."""
    absent = [label for label, examples in zip(labels, support, strict=True) if not examples]
    if not absent:
        return "the model gives scores that are not finite"
    named = ", ".join(label[:40] for label in absent[:NAMED_LABELS]) + (", …" if len(absent) > NAMED_LABELS else "")
    return f"the held-out data has no example of {named}; add some, or stratify the split"


def area_under_curve(scores: np.ndarray, targets: np.ndarray, classes: int) -> float | None:
    """ROC AUC, one class against the rest, macro average; None when a class has no example to compare with."""
    if len(np.unique(targets)) < classes or not np.isfinite(scores).all():
        return None
    probabilities = np.exp(scores.astype(np.float64))
    if classes == 2:
        return float(roc_auc_score(targets, probabilities[:, 1]))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return float(roc_auc_score(targets, probabilities, multi_class="ovr", average="macro"))
