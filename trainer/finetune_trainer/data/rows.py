"""Which examples share a row of a batch, in arrays: a list of lists would take a hundred bytes for each."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from finetune_trainer.data.encoded import Ints

RowOfExamples = Ints | list[int]


@dataclass(frozen=True)
class Rows:
    """Row `i` has the examples `examples[offsets[i]:offsets[i+1]]`: one, or several where they are packed."""

    examples: Ints
    offsets: Ints

    @classmethod
    def of_one(cls, examples: Ints) -> "Rows":
        """A row for each of these examples."""
        return cls(examples, np.arange(len(examples) + 1))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> Ints:
        return self.examples[self.offsets[row] : self.offsets[row + 1]]

    def __iter__(self) -> Iterator[Ints]:
        return (self[row] for row in range(len(self)))

    def sums(self, values: Ints) -> Ints:
        """Of one number an example, such as its tokens: the sum of each row, none of which is empty."""
        if not len(self):
            return np.zeros(0, np.int64)
        return np.add.reduceat(np.asarray(values)[self.examples], self.offsets[:-1])
