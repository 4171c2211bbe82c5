"""What several tasks are measured by: each as it is alone, and the mean over them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from finetune_api.metrics import AVERAGE, METRICS, of_subtask
from finetune_trainer.metrics.scores import Evaluation, Scores

LOSS = "loss"


class MultiTaskScores:
    """Hands each subtask what is its own."""

    def __init__(self, scores: Mapping[str, tuple[str, Scores]]) -> None:
        """`scores` are the task and the empty collection of each subtask."""
        self._scores = scores

    def add(self, predictions: Mapping[str, Any], batch: Any, rows: np.ndarray) -> None:
        """`batch` is a MixedBatch, whose parts know which examples they are of."""
        for name, found in predictions.items():
            part = batch.parts[name]
            self._scores[name][1].add(found, part.batch, part.examples)

    def share(self) -> dict[str, Any]:
        return {name: scores.share() for name, (_, scores) in self._scores.items()}

    def result(self, shares: list[dict[str, Any]]) -> Evaluation:
        found = {name: scores.result([share[name] for share in shares]) for name, (_, scores) in self._scores.items()}
        return together({name: task for name, (task, _) in self._scores.items()}, found)


def together(tasks: Mapping[str, str], found: Mapping[str, Evaluation]) -> Evaluation:
    """One evaluation of all; every subtask weighs as much as another, whatever its size."""
    means = {
        AVERAGE: float(np.mean([one.metrics[METRICS[tasks[name]][0]] for name, one in found.items()])),
        LOSS: float(np.mean([one.metrics[LOSS] for one in found.values()])),
    }
    metrics = {of_subtask(name, key): value for name, one in found.items() for key, value in one.metrics.items()}
    missing = {of_subtask(name, key): why for name, one in found.items() for key, why in one.not_computed.items()}
    details = {name: {"task": tasks[name], **one.details} for name, one in found.items()}
    return Evaluation({**means, **metrics}, {"subtasks": details}, missing)
