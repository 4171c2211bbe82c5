"""Accuracy, precision, recall, F1, AUC, loss and confusion matrix of a classification."""

from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, roc_auc_score

from finetune_trainer.metrics.roc import roc_curves
from finetune_trainer.metrics.scores import Evaluation

NAMED_LABELS = 5
"""So many absent labels an error names."""


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
