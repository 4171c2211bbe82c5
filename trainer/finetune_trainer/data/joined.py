"""The encoded data of several subtasks as one, each kept as it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from finetune_trainer.data.encoded import Encoded, Ints


@dataclass(frozen=True)
class Joined(Encoded):
    """The examples of one subtask after those of another. Columns are those of each part, which have their own.

    An example counts as one target, whatever its own task counts: a loss is divided by the number of examples.
    """

    parts: Mapping[str, Encoded]

    @classmethod
    def of(cls, parts: Mapping[str, Encoded]) -> "Joined":
        """In the order of `parts`."""
        lengths = np.concatenate([np.asarray(part.lengths) for part in parts.values()])
        return cls({}, lengths, np.ones(len(lengths), np.int64), parts)

    @cached_property
    def starts(self) -> dict[str, int]:
        """Where each subtask's examples begin."""
        ends = np.cumsum([len(part) for part in self.parts.values()]).tolist()
        return dict(zip(self.parts, [0, *ends], strict=False))

    @cached_property
    def targets_per_example(self) -> dict[str, float]:
        """What a subtask's own task counts in the mean example: the words of a text to tag, else 1."""
        return {name: float(np.mean(part.targets)) for name, part in self.parts.items() if len(part)}

    def of_each(self, examples: Ints) -> dict[str, tuple[Ints, Ints]]:
        """For each subtask, which places of `examples` are its own, and its numbers of them."""
        found = {}
        for name, part in self.parts.items():
            numbers = np.asarray(examples) - self.starts[name]
            places = np.flatnonzero((numbers >= 0) & (numbers < len(part)))
            found[name] = places, numbers[places]
        return found

    def shortest(self, count: int) -> list[int]:
        """`count` examples of each subtask."""
        return [start + i for name, start in self.starts.items() for i in self.parts[name].shortest(count)]
