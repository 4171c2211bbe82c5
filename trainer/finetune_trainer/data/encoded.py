"""Encoded examples as flat arrays: compact, memory-mapped, the same for every process of a node."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Ints = np.ndarray
Values = Sequence[int] | Sequence[float] | Sequence[bool] | bytes | np.ndarray

LABEL = "label"
"""The column of class indices; NO_LABEL where there is none."""
FIRST_PIECE = "first_piece"
"""The column of the number of the example that holds the first piece of the text, where long texts are split."""
NO_LABEL = -100
"""Where no class is learnt, such as at a special token. PyTorch's and transformers' own mark."""
COUNTED_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True)
class Features:
    """One example as the task's batches need it: stretches of numbers by column."""

    columns: Mapping[str, Values]
    length: int
    """What it costs to compute, in the task's unit: tokens of a text, 1 for an image."""
    targets: int = 1
    """Predictions that it adds to the loss; one with 0 has nothing to learn."""
    longest: int | None = None
    """Of an example of several texts: the longest, which `dataset.maxLength` bounds. Else `length` is bounded."""


@dataclass(frozen=True)
class Column:
    """Example `i` has `values[offsets[i]:offsets[i+1]]`."""

    values: np.ndarray
    offsets: Ints

    def __getitem__(self, index: int) -> np.ndarray:
        return self.values[self.offsets[index] : self.offsets[index + 1]]


@dataclass(frozen=True)
class Encoded:
    """`n` examples. Which columns there are is the task's affair; `lengths` and `targets` are everybody's."""

    columns: dict[str, Column]
    lengths: Ints
    targets: Ints

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, name: str) -> Column:
        return self.columns[name]

    @property
    def labels(self) -> Ints | None:
        """Class indices of all examples, one after the other: one an example, or one a token."""
        column = self.columns.get(LABEL)
        return None if column is None else column.values

    def label_counts(self, classes: int) -> Ints:
        """How often each class is a label, (classes,)."""
        counts = np.zeros(classes, np.int64)
        labels = np.empty(0, np.int32) if self.labels is None else self.labels
        for start in range(0, len(labels), COUNTED_AT_ONCE):
            some = labels[start : start + COUNTED_AT_ONCE]
            counts += np.bincount(some[some != NO_LABEL], minlength=classes)
        return counts

    def shortest(self, count: int) -> list[int]:
        """That many examples: they compare as well as long ones, and cost less memory.

        Held-out ones of which a cut left nothing to predict come last: there is nothing to compare.
        """
        return np.lexsort((self.lengths, self.targets == 0))[:count].tolist()

    def with_column(self, name: str, column: Column) -> "Encoded":
        """The same examples with one column more."""
        return Encoded({**self.columns, name: column}, self.lengths, self.targets)

    @classmethod
    def load(cls, folder: Path) -> "Encoded":
        """Memory-mapped: the processes of a node share the pages.

        Two .npy files a column, and one each for lengths and targets, as `EncodedWriter` leaves them.
        """
        names = [file.name.removesuffix(".values.npy") for file in folder.glob("*.values.npy")]
        columns = {n: Column(_mapped(folder / f"{n}.values.npy"), _mapped(folder / f"{n}.offsets.npy")) for n in names}
        return cls(columns, _mapped(folder / "lengths.npy"), _mapped(folder / "targets.npy"))


def encode(examples: Sequence[Features]) -> Encoded:
    """Flattens examples that have the same columns."""
    names = examples[0].columns if examples else ()
    return Encoded(
        columns={name: _column([example.columns[name] for example in examples]) for name in names},
        lengths=np.asarray([example.length for example in examples], dtype=np.int64),
        targets=np.asarray([example.targets for example in examples], dtype=np.int64),
    )


def _column(stretches: list[Values]) -> Column:
    offsets = np.zeros(len(stretches) + 1, dtype=np.int64)
    np.cumsum([len(stretch) for stretch in stretches], out=offsets[1:])
    return Column(_flat(stretches, int(offsets[-1])), offsets)


def _flat(stretches: list[Any], count: int) -> np.ndarray:
    if not count:
        return np.empty(0, dtype=np.uint8)
    first: Any = next(stretch for stretch in stretches if len(stretch))
    if isinstance(first, bytes):
        return np.frombuffer(b"".join(stretches), dtype=np.uint8)
    if isinstance(first, np.ndarray):
        return np.concatenate(stretches)
    kind = {bool: np.bool_, float: np.float32}.get(type(first[0]), np.int32)
    return np.fromiter((value for stretch in stretches for value in stretch), dtype=kind, count=count)


def _mapped(file: Path) -> np.ndarray:
    # A plain view: slices of np.memmap itself are ten times slower to make.
    return np.load(file, mmap_mode="r").view(np.ndarray)
