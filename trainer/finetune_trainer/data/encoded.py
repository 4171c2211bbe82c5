"""Tokenised examples as flat arrays: compact, memory-mapped, the same for every process of a node."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

Ints = np.ndarray


@dataclass(frozen=True)
class Encoded:
    """`n` examples. Example `i` is `tokens[offsets[i]:offsets[i+1]]`.

    Classification has one class index an example in `labels`; generation has in `trained` which tokens
    the model learns to predict.
    """

    tokens: Ints
    offsets: Ints
    labels: Ints | None = None
    trained: Ints | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Ints:
        """Tokens of each example."""
        return np.diff(self.offsets)

    def example(self, index: int) -> Ints:
        """Token ids of one example."""
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]

    def trained_mask(self, index: int) -> Ints:
        """Which tokens of one example are learnt. The first has nothing before it to be predicted from."""
        assert self.trained is not None
        return self.trained[self.offsets[index] : self.offsets[index + 1]]

    def targets(self) -> Ints:
        """Predictions that each example adds to the loss: its learnt tokens, or one for its class."""
        if self.trained is None:
            return np.ones(len(self), dtype=np.int64)
        first = np.asarray(self.trained[self.offsets[:-1]], dtype=np.int64)  # predicted from nothing: never learnt
        return segment_sums(self.trained, self.offsets) - first

    def save(self, folder: Path) -> None:
        """One .npy file an array."""
        for name in ("tokens", "offsets", "labels", "trained"):
            array = getattr(self, name)
            if array is not None:
                np.save(folder / f"{name}.npy", array)

    @classmethod
    def load(cls, folder: Path) -> "Encoded":
        """Memory-mapped: the processes of a node share the pages."""
        # A plain view: slices of np.memmap itself are ten times slower to make.
        arrays = {p.stem: np.load(p, mmap_mode="r").view(np.ndarray) for p in folder.glob("*.npy")}
        return cls(**arrays)


def segment_sums(values: Ints, offsets: Ints) -> Ints:
    """Sum of each segment; an empty segment has 0."""
    total = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
    return total[offsets[1:]] - total[offsets[:-1]]


def encode_rows(
    rows: list[list[int]], labels: list[int] | None = None, trained: list[list[int]] | None = None
) -> Encoded:
    """Flattens token lists."""
    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    return Encoded(
        tokens=_flat(rows, np.int32),
        offsets=offsets,
        labels=None if labels is None else np.asarray(labels, dtype=np.int64),
        trained=None if trained is None else _flat(trained, np.bool_),
    )


def _flat(rows: list[list[int]], dtype: type) -> Ints:
    return np.fromiter((value for row in rows for value in row), dtype=dtype, count=sum(map(len, rows)))
