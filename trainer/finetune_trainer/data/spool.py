"""Examples on disk, for data larger than memory: in memory is only where each one lies, and what it is told by."""

import pickle
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from finetune_trainer.data.examples import Example
from finetune_trainer.data.row import Where

FIELDS = [field.name for field in fields(Example)]
BUFFER = 1 << 20
IDENTITY = struct.Struct("<2Q")
"""The first 16 bytes of `Example.identity`: among a hundred million examples, two are taken for one once in 10^22."""


class Spool:
    """A file of examples, each written once and read as often as wanted.

    It has no name, so nobody else reads or changes it, and it ends with the process whatever happens. Of each example
    24 bytes are in memory.
    """

    def __init__(self, folder: Path) -> None:
        file = folder / "examples.spool"
        self._writer, self._reader = file.open("wb", BUFFER), file.open("rb", BUFFER)
        file.unlink()
        self._starts = array("Q", [0])
        self._flushed = 0
        self._identities = array("Q")

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, place: int) -> Example:
        start, end = self._starts[place], self._starts[place + 1]
        if end > self._flushed:
            self._writer.flush()
            self._flushed = self._starts[-1]
        self._reader.seek(start)
        values = pickle.loads(self._reader.read(end - start))
        return Example(values[0], Where(*values[1]), *values[2:])

    def add(self, examples: Iterator[Example]) -> "Examples":
        """Writes them; examples may be read in between."""
        first = len(self)
        for example in examples:
            values = [getattr(example, name) for name in FIELDS]
            values[1] = tuple(example.where)
            self._starts.append(self._starts[-1] + self._writer.write(pickle.dumps(values, pickle.HIGHEST_PROTOCOL)))
            self._identities.extend(IDENTITY.unpack_from(example.identity))
        return Examples(self, np.arange(first, len(self)))

    def identities(self, places: np.ndarray) -> np.ndarray:
        """(places, 2): equal rows for examples of equal `identity`."""
        return np.frombuffer(self._identities, dtype=np.uint64).reshape(-1, 2)[places]

    def close(self) -> None:
        """Gives the disk space back."""
        self._writer.close()
        self._reader.close()


@dataclass(frozen=True)
class Examples:
    """Some of the examples of a spool, in order."""

    spool: Spool
    places: np.ndarray

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[Example]:
        return (self.spool[int(place)] for place in self.places)

    def __getitem__(self, index: int) -> Example:
        return self.spool[int(self.places[index])]

    def __add__(self, more: "Examples") -> "Examples":
        return Examples(self.spool, np.concatenate([self.places, more.places]))

    def chosen(self, which: np.ndarray) -> "Examples":
        """Those that a mask or an array of indices names."""
        return Examples(self.spool, self.places[which])

    def identities(self) -> np.ndarray:
        """(examples, 2): equal rows for examples with the same input, whatever their label."""
        return self.spool.identities(self.places)
