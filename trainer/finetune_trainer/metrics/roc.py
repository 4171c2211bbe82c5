"""Receiver operating characteristic: one class against the rest, as few points as a picture needs."""

from typing import Any

import numpy as np
from sklearn.metrics import roc_curve

POINTS = 101
CURVES = 20
"""Classes beyond so many get no curve; the rarest are left out."""


def roc_curves(scores: np.ndarray, targets: np.ndarray, labels: list[str]) -> list[dict[str, Any]]:
    """`label`, `falsePositiveRate` and `truePositiveRate` of each class that can have a curve.

    `scores` are log-probabilities, (examples, classes). Of two classes the second has the only curve: that of the
    first is its mirror image. A class that no example or every example has gets none.
    """
    if not np.isfinite(scores).all():
        return []
    classes = [1] if len(labels) == 2 else range(len(labels))
    possible = [c for c in classes if 0 < int((targets == c).sum()) < len(targets)]
    frequent = sorted(possible, key=lambda c: -int((targets == c).sum()))[:CURVES]
    return [_curve(labels[c], targets == c, scores[:, c]) for c in sorted(frequent)]


def _curve(label: str, is_class: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    false_rate, true_rate, _ = roc_curve(is_class, scores)
    kept = np.unique(np.linspace(0, len(false_rate) - 1, POINTS).round().astype(int))
    return {
        "label": label,
        "falsePositiveRate": false_rate[kept].round(5).tolist(),
        "truePositiveRate": true_rate[kept].round(5).tolist(),
    }
