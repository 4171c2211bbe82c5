"""Encoded examples as padded tensors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from finetune_trainer.data.encoded import Encoded
from finetune_trainer.data.rows import RowOfExamples

SOFT_LABELS = "soft_label"
"""A column, and among a batch's extras: a teacher's log-probabilities of the classes."""


@dataclass(frozen=True)
class Batch:
    """Inputs of the model, and what the loss compares its outputs with.

    For cross-entropy `positions` index the logits flattened to (predictions, classes): which of them count is settled
    on the host, so the loss never waits for the device.
    """

    inputs: dict[str, Tensor]
    positions: Tensor
    targets: Tensor
    options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the forward pass."""
    extras: dict[str, Tensor] = field(default_factory=dict)
    """What the task's loss needs besides."""
    idle: bool = False
    """Only keeps a rank in step with the others: its loss counts nothing."""
    beside: "Batch | None" = None
    """What the loss compares with and learns nothing from."""

    def to(self, device: torch.device) -> "Batch":
        """On the device, without waiting for the copy."""
        if device.type == "cpu":
            return self
        return replace(
            self,
            inputs={name: _moved(tensor, device) for name, tensor in self.inputs.items()},
            positions=_moved(self.positions, device),
            targets=_moved(self.targets, device),
            extras={name: _moved(tensor, device) for name, tensor in self.extras.items()},
            beside=self.beside and self.beside.to(device),
        )


Collate = Callable[[Encoded, Sequence[RowOfExamples]], Batch]
"""Rows of example indices as one batch; more than one example shares a row only where they are packed."""
Draws = np.random.Generator | None
AlteringCollate = Callable[[Encoded, Sequence[RowOfExamples], Sequence[Draws]], Batch]
"""The same, with each row altered by what its generator draws; None leaves it as it is."""


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.pin_memory().to(device, non_blocking=True)


def classification_batch(encoded: Encoded, examples: list[int], pad: int) -> Batch:
    """Token ids with one prediction a row."""
    assert encoded.labels is not None
    ids, mask = padded_ids(encoded, examples, pad)
    targets = torch.from_numpy(np.asarray(encoded.labels[examples], dtype=np.int64))
    extras = {}
    if SOFT_LABELS in encoded.columns:
        extras[SOFT_LABELS] = torch.from_numpy(np.stack([encoded[SOFT_LABELS][i] for i in examples]))
    inputs = {"input_ids": ids, "attention_mask": mask}
    return Batch(inputs, torch.arange(len(examples)), targets, extras=extras)


def generation_batch(encoded: Encoded, examples: list[int], pad: int) -> Batch:
    """One example a row; logits at token t - 1 predict token t."""
    ids, mask = padded_ids(encoded, examples, pad)
    learnt = padded([encoded["trained"][i] for i in examples], False)
    return _predicting(ids, learnt, {"input_ids": ids, "attention_mask": mask})


def packed_batch(encoded: Encoded, rows: Sequence[RowOfExamples], pad: int) -> Batch:
    """Several examples a row, told apart by position_ids that start anew at 0.

    There is no attention mask: given one, transformers would let the examples of a row see each other. Padding
    forms a segment of its own.
    """
    width = max(sum(int(encoded.lengths[i]) for i in row) for row in rows)
    ids = np.full((len(rows), width), pad, dtype=np.int64)
    places = np.tile(np.arange(width), (len(rows), 1))
    learnt = np.zeros((len(rows), width), dtype=bool)
    for number, row in enumerate(rows):
        start = 0
        for index in row:
            tokens = encoded["input_ids"][index]
            end = start + len(tokens)
            ids[number, start:end] = tokens
            places[number, start:end] = np.arange(len(tokens))
            learnt[number, start:end] = encoded["trained"][index]
            learnt[number, start] = False
            start = end
        places[number, start:] = np.arange(width - start)
    tensor = torch.from_numpy(ids)
    return _predicting(tensor, learnt, {"input_ids": tensor, "position_ids": torch.from_numpy(places)})


def _predicting(ids: Tensor, learnt: np.ndarray, inputs: dict[str, Tensor]) -> Batch:
    learnt[:, 0] = False
    places = torch.from_numpy(np.flatnonzero(learnt))
    # With a cache, transformers would not look for packed examples, and let them see each other.
    return Batch(inputs, places - 1, ids.flatten()[places], {"use_cache": False})


def padded_ids(encoded: Encoded, examples: list[int], pad: int, column: str = "input_ids") -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, (examples, longest)."""
    rows = [encoded[column][i] for i in examples]
    mask = padded([np.ones(len(row), dtype=np.int64) for row in rows], 0)
    return torch.from_numpy(padded(rows, pad).astype(np.int64)), torch.from_numpy(mask)


def padded(rows: Sequence[np.ndarray], fill: int | bool) -> np.ndarray:
    """Rows of different lengths as one array, (rows, longest)."""
    array = np.full((len(rows), max(map(len, rows))), fill, dtype=rows[0].dtype)
    for number, row in enumerate(rows):
        array[number, : len(row)] = row
    return array
