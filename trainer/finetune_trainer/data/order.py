"""Which examples each step sees: a pure function of (seed, epoch, step), so that a resumed run seeks, never skips."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from finetune_trainer.data.encoded import Ints

GROUP = 50
"""Batches that are sorted by length together: less padding, still well mixed."""


@dataclass(frozen=True)
class DataOrder:
    """The order of `rows` examples (or packed rows) with the given lengths, in global batches."""

    lengths: np.ndarray
    batch_size: int
    seed: int

    def batches(self, epoch: int) -> "Batches":
        """Every global batch of an epoch, each sorted by length; the last may be smaller: no example is left out."""
        generator = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
        order = generator.permutation(len(self.lengths))
        size = self.batch_size * GROUP
        for start in range(0, len(order), size):
            group = order[start : start + size]
            order[start : start + size] = group[np.argsort(self.lengths[group], kind="stable")]
        return Batches(order, generator.permutation(math.ceil(len(order) / self.batch_size)), self.batch_size)


@dataclass(frozen=True)
class Batches:
    """Stretches of `order`, of the same size but for the last of them, as `places` says."""

    order: Ints
    places: Ints
    size: int

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> Ints:
        start = int(self.places[number]) * self.size
        return self.order[start : start + self.size]

    def __iter__(self) -> Iterator[Ints]:
        return (self[number] for number in range(len(self)))


def micro_batches(batch: np.ndarray, rank: int, world_size: int, accumulation: int) -> list[np.ndarray]:
    """This rank's share of a global batch, one array a forward pass; some are empty when the batch is short.

    Neighbours in length go to the ranks of one pass: none waits for another's longer rows.
    """
    pieces = np.array_split(batch, world_size * accumulation)
    return [pieces[turn * world_size + rank] for turn in range(accumulation)]
