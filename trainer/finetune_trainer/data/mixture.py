"""Which examples of several subtasks each step sees: a pure function of (seed, epoch, step), as `DataOrder` is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from finetune_trainer.data.encoded import Ints
from finetune_trainer.data.order import Batches

PASS_BITS = 32
"""Of a generator's key: subtask and pass have different bits."""


@dataclass(frozen=True)
class Mixture:
    """Global batches in which subtasks have their shares, as nearly as whole examples allow.

    The examples of one subtask stand after those of another. An epoch has as many as there are; of a subtask with a
    smaller share than its size some come in a later epoch, of one with a greater share some come again. Each subtask is
    shuffled anew when all of it has been seen, whenever that is: none of its examples comes twice before all came once.
    """

    sizes: Sequence[int]
    shares: Sequence[float]
    """Of each subtask; together 1."""
    lengths: Ints
    batch_size: int
    seed: int

    def batches(self, epoch: int) -> Batches:
        """Every global batch of an epoch, each sorted by length; the last may be smaller."""
        counts = whole_shares(sum(self.sizes), self.shares)
        generator = self._generator(len(self.sizes), epoch)
        offsets = generator.random(len(counts))
        # Each subtask's examples are spread evenly over the epoch; the offset settles who of two comes first.
        when = [(np.arange(count) + offset) / count for count, offset in zip(counts, offsets, strict=True)]
        examples = np.concatenate([self._stream(task, epoch * n, n) for task, n in enumerate(counts)])
        order = examples[np.argsort(np.concatenate(when), kind="stable")]
        batches = Batches(order, np.arange(math.ceil(len(order) / self.batch_size)), self.batch_size)
        for batch in batches:  # views of the order
            batch[:] = batch[np.argsort(self.lengths[batch], kind="stable")]
        return batches

    def _stream(self, task: int, start: int, count: int) -> Ints:
        """Examples `start` to `start + count` of a subtask's endless row of passes."""
        size = self.sizes[task]
        first, last = start // size, (start + count - 1) // size
        passes = [self._generator(task, number).permutation(size) for number in range(first, last + 1)]
        own: Ints = np.concatenate(passes)[start - first * size :][:count]
        return own + sum(self.sizes[:task])

    def _generator(self, task: int, number: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=[self.seed, (task << PASS_BITS) + number]))


def sampling_shares(sizes: Sequence[int], weights: Sequence[float] | None, temperature: float) -> list[float]:
    """What the weights say; without them, sizes to the power of 1 / temperature (Raffel et al. 2020, section 3.5.2)."""
    scaled = np.asarray(weights if weights else np.asarray(sizes, float) ** (1 / temperature), float)
    shares: list[float] = (scaled / scaled.sum()).tolist()
    return shares


def whole_shares(total: int, shares: Sequence[float]) -> list[int]:
    """`total` in whole numbers by the shares, the greatest remainders rounded up; at least one each."""
    exact = np.asarray(shares) * total
    counts = np.floor(exact).astype(np.int64)
    missing = total - int(counts.sum())
    counts[np.argsort(-(exact - counts), kind="stable")[:missing]] += 1
    while (counts == 0).any():  # a share below one example of an epoch
        counts[counts.argmin()] += 1
        counts[counts.argmax()] -= 1
    found: list[int] = counts.tolist()
    return found
