"""How well good completions are told from bad ones by how much likelier training has made them."""

import math
from typing import Any

import numpy as np
from torch import Tensor

from finetune_api.preference import Preference
from finetune_trainer.data.batches import Batch
from finetune_trainer.data.encoded import Encoded
from finetune_trainer.metrics.scores import Evaluation

Judged = tuple[bool, float, float, bool]
"""Whether it is good, its log-ratio, that of another completion of its prompt, and whether a cut left some of it."""


class JudgedScores:
    """Keeps two log-ratios an example."""

    def __init__(self, preference: Preference, encoded: Encoded) -> None:
        self._preference = preference
        self._encoded = encoded
        self._parts: list[tuple[np.ndarray, Tensor, Tensor]] = []

    def add(self, predictions: Tensor, batch: Batch, rows: np.ndarray) -> None:
        """`predictions` are log-ratios, (2 × examples): of the completions, then of others' completions."""
        self._parts.append((rows, batch.extras["good"], predictions.double().view(2, -1)))

    def share(self) -> list[Judged]:
        return [
            (good, own, other, bool(self._encoded.targets[row]))
            for rows, marks, ratios in self._parts
            for row, good, (own, other) in zip(rows, marks.tolist(), ratios.T.tolist(), strict=True)
        ]

    def result(self, shares: list[Any]) -> Evaluation:
        return judged_metrics(sorted(judged for share in shares for judged in share), self._preference)


def judged_metrics(judged: list[Judged], preference: Preference) -> Evaluation:
    """`accuracy` is of all pairs of a good and a bad completion: the area under the ROC curve.

    Pairs with a completion of which a cut left nothing count as wrong; the other metrics are of the others.
    """
    scored = [(is_good, own, other) for is_good, own, other, left in judged if left]
    moved = max(0.0, _mean([other for _, _, other in scored]))
    losses = [
        _weight(good, preference) * (1 - _sigmoid(preference.beta * (own - moved if good else moved - own)))
        for good, own, _ in scored
    ]
    good = [preference.beta * own for is_good, own, _ in scored if is_good]
    bad = [preference.beta * own for is_good, own, _ in scored if not is_good]
    metrics = {"loss": _mean(losses)}
    details = {
        "completions": len(judged),
        "scoredCompletions": len(scored),
        "goodReward": _mean(good),
        "badReward": _mean(bad),
        "kl": moved,
    }
    if not good or not bad:
        why = f"the held-out data has no {'bad' if good else 'good'} completion; stratify the split by the label"
        return Evaluation(metrics, details, {"accuracy": why, "margin": why})
    all_good = sum(one[0] for one in judged)
    right = _pairs_in_order(good, bad) / (all_good * (len(judged) - all_good))
    return Evaluation(metrics | {"accuracy": right, "margin": _mean(good) - _mean(bad)}, details)


def _pairs_in_order(good: list[float], bad: list[float]) -> float:
    """How many pairs are in the right order; equal ones count half."""
    ranked = np.sort(bad)
    below = np.searchsorted(ranked, good, "left").sum() + np.searchsorted(ranked, good, "right").sum()
    return float(below) / 2


def _weight(good: bool, preference: Preference) -> float:
    return (preference.desirable_weight if good else preference.undesirable_weight) or 1.0


def _sigmoid(value: float) -> float:
    return 0.5 * (1 + math.tanh(value / 2))


def _mean(values: list[float]) -> float:
    return math.fsum(values) / max(1, len(values))
