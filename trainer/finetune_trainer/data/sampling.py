"""Classes of different size: weights in the loss, or examples that come more or less often."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ParamSpec

import numpy as np
import torch
from torch import Tensor

from finetune_api.data_preparation import Sampling
from finetune_trainer.data.batches import Batch
from finetune_trainer.data.encoded import Encoded
from finetune_trainer.data.rows import Rows
from finetune_trainer.errors import DataError

P = ParamSpec("P")
CLASS_WEIGHTS = "class_weights"
"""Among a batch's extras."""


def class_weights(sampling: Sampling | None, encoded: Encoded, labels: list[str]) -> Tensor | None:
    """One weight a class. Their mean over the training examples is 1, so that the learning rate keeps its meaning.

    Raises:
        DataError: A weight is given for a class that there is none of.
    """
    if sampling is None or not (sampling.weights or sampling.balance == "Weights"):
        return None
    counts = np.bincount(np.asarray(encoded.labels), minlength=len(labels)).astype(np.float64)
    given = sampling.weights or {}
    strangers = sorted(set(given) - set(labels))
    if strangers:
        raise DataError(
            f"dataset.sampling.weights: there is no class {strangers[0]!r}; the classes are {', '.join(labels)}"
        )
    weights = 1 / counts if sampling.balance == "Weights" else np.asarray([given.get(label, 1.0) for label in labels])
    return torch.tensor(weights * counts.sum() / (weights * counts).sum(), dtype=torch.float32)


def sampling_report(sampling: Sampling | None, encoded: Encoded, labels: list[str]) -> dict[str, Any]:
    """What it makes of the training data, for the data report; {} without.

    Raises:
        DataError: As `class_weights` does.
    """
    weights = class_weights(sampling, encoded, labels)
    if sampling is not None and weights is not None:
        return {"weights": dict(zip(labels, (round(weight, 4) for weight in weights.tolist()), strict=True))}
    if sampling is None or sampling.balance == "None":
        return {}
    counts = encoded.label_counts(len(labels))
    size = _class_size(counts, sampling)
    return {
        "examplesPerEpoch": size * int((counts > 0).sum()),
        "leftOut": int(np.maximum(counts - size, 0).sum()),
        "repeated": int(np.maximum(size - counts[counts > 0], 0).sum()),
    }


def _class_size(counts: np.ndarray, sampling: Sampling) -> int:
    counts = counts[counts > 0]
    return int(counts.max() if sampling.balance == "Oversample" else counts.min())


def weighted(collate: Callable[P, Batch], weights: Tensor | None) -> Callable[P, Batch]:
    """Batches that carry the weights of the classes to the loss."""
    if weights is None:
        return collate

    def collated(*args: P.args, **kwargs: P.kwargs) -> Batch:
        batch = collate(*args, **kwargs)
        return replace(batch, extras={**batch.extras, CLASS_WEIGHTS: weights})

    return collated


def resampled(rows: Rows, encoded: Encoded, sampling: Sampling | None, seed: int) -> Rows:
    """The rows of an epoch, each class as often as the largest or the smallest; one example a row."""
    if sampling is None or sampling.balance not in ("Oversample", "Undersample"):
        return rows
    labels = np.asarray(encoded.labels)
    size = _class_size(np.bincount(labels), sampling)
    generator = np.random.Generator(np.random.Philox(key=[seed, size]))
    chosen: list[np.ndarray] = []
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        chosen.append(np.resize(members, size))
    return Rows.of_one(np.sort(np.concatenate(chosen)))
