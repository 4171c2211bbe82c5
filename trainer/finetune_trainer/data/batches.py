"""Rows of encoded examples as padded tensors."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from finetune_trainer.data.encoded import Encoded


@dataclass(frozen=True)
class Batch:
    """Inputs of the model, and what it must predict where.

    `positions` index the logits flattened to (predictions, classes): which of them count is settled on the host,
    so the loss never waits for the device. Both are empty for a batch that only keeps a rank in step.
    """

    inputs: dict[str, Tensor]
    positions: Tensor
    targets: Tensor
    options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the forward pass."""

    def to(self, device: torch.device) -> "Batch":
        """On the device, without waiting for the copy."""
        if device.type == "cpu":
            return self
        inputs = {name: _moved(tensor, device) for name, tensor in self.inputs.items()}
        return Batch(inputs, _moved(self.positions, device), _moved(self.targets, device), self.options)

    def without_targets(self) -> "Batch":
        """The same rows with nothing to learn from: gradients of zero."""
        return Batch(self.inputs, self.positions[:0], self.targets[:0], self.options)


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.pin_memory().to(device, non_blocking=True)


def classification_batch(encoded: Encoded, examples: list[int], pad: int) -> Batch:
    """One prediction a row."""
    assert encoded.labels is not None
    ids, mask = _padded([encoded.example(i) for i in examples], pad)
    targets = torch.from_numpy(np.asarray(encoded.labels[examples], dtype=np.int64))
    return Batch({"input_ids": ids, "attention_mask": mask}, torch.arange(len(examples)), targets)


def generation_batch(encoded: Encoded, examples: list[int], pad: int) -> Batch:
    """One example a row; logits at token t - 1 predict token t."""
    ids, mask = _padded([encoded.example(i) for i in examples], pad)
    learnt = np.zeros(tuple(ids.shape), dtype=bool)
    for row, index in enumerate(examples):
        own = encoded.trained_mask(index)
        learnt[row, : len(own)] = own
    return _predicting(ids, learnt, {"input_ids": ids, "attention_mask": mask})


def packed_batch(encoded: Encoded, rows: list[list[int]], pad: int) -> Batch:
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
            tokens = encoded.example(index)
            end = start + len(tokens)
            ids[number, start:end] = tokens
            places[number, start:end] = np.arange(len(tokens))
            learnt[number, start:end] = encoded.trained_mask(index)
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


def _padded(rows: list[np.ndarray], pad: int) -> tuple[Tensor, Tensor]:
    width = max(map(len, rows))
    ids = np.full((len(rows), width), pad, dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=np.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
        mask[number, : len(row)] = 1
    return torch.from_numpy(ids), torch.from_numpy(mask)
