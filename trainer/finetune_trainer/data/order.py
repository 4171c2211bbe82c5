"""Which examples each step sees: a pure function of (seed, epoch, step), so that a resumed run seeks, never skips."""

from dataclasses import dataclass

import numpy as np

GROUP = 50
"""Batches that are sorted by length together: less padding, still well mixed."""


@dataclass(frozen=True)
class DataOrder:
    """The order of `rows` examples (or packed rows) with the given lengths, in global batches."""

    lengths: np.ndarray
    batch_size: int
    seed: int

    def batches(self, epoch: int) -> list[np.ndarray]:
        """Every global batch of an epoch, each sorted by length; the last may be smaller: no example is left out."""
        generator = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
        shuffled = generator.permutation(len(self.lengths))
        size = self.batch_size * GROUP
        batches: list[np.ndarray] = []
        for start in range(0, len(shuffled), size):
            group = shuffled[start : start + size]
            group = group[np.argsort(self.lengths[group], kind="stable")]
            batches += [group[i : i + self.batch_size] for i in range(0, len(group), self.batch_size)]
        return [batches[i] for i in generator.permutation(len(batches))]


def micro_batches(batch: np.ndarray, rank: int, world_size: int, accumulation: int) -> list[np.ndarray]:
    """This rank's share of a global batch, one array a forward pass; some are empty when the batch is short.

    Neighbours in length go to the ranks of one pass: none waits for another's longer rows.
    """
    pieces = np.array_split(batch, world_size * accumulation)
    return [pieces[turn * world_size + rank] for turn in range(accumulation)]
