"""Writes encoded examples as they come, so that memory holds a chunk of them at a time."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from finetune_trainer.data.encoded import Encoded


class GrowingArray:
    """A .npy file of one dimension, whose length is known in the end."""

    def __init__(self, path: Path, dtype: np.dtype) -> None:
        self._dtype = dtype
        self._count = 0
        self._file: BinaryIO = path.open("wb")
        self._write_header()

    def append(self, values: np.ndarray) -> None:
        """Raises TypeError when they are of another kind than the first ones."""
        self._file.write(values.astype(self._dtype, casting="no").tobytes())
        self._count += len(values)

    def close(self) -> None:
        """Writes the length where it belongs."""
        self._file.seek(0)
        self._write_header()
        self._file.close()

    def _write_header(self) -> None:
        # NumPy leaves room in it for an array that grows: it is as long whatever the count.
        description = {"descr": npy.dtype_to_descr(self._dtype), "fortran_order": False, "shape": (self._count,)}
        npy.write_array_header_1_0(self._file, description)


class EncodedWriter:
    """Puts chunks, which have the same columns, one after the other into the files of `Encoded.load`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._arrays: dict[str, GrowingArray] = {}
        self._ends: dict[str, int] = {}
        self.count = 0
        self._append("lengths", np.empty(0, np.int64))
        self._append("targets", np.empty(0, np.int64))

    def add(self, chunk: Encoded) -> None:
        """Raises TypeError when a column changes its kind."""
        self.count += len(chunk)
        self._append("lengths", chunk.lengths)
        self._append("targets", chunk.targets)
        for name, column in chunk.columns.items():
            if name not in self._ends:
                self._ends[name] = 0
                self._append(f"{name}.offsets", column.offsets[:1])
            self._append(f"{name}.offsets", column.offsets[1:] + self._ends[name])
            self._ends[name] += len(column.values)
            if len(column.values):  # what is empty has no kind
                self._append(f"{name}.values", column.values)

    def close(self) -> Encoded:
        """Everything that was added, memory-mapped."""
        for name in self._ends:
            if f"{name}.values" not in self._arrays:
                self._append(f"{name}.values", np.empty(0, np.uint8))
        for array in self._arrays.values():
            array.close()
        return Encoded.load(self._folder)

    def _append(self, name: str, values: np.ndarray) -> None:
        if name not in self._arrays:
            self._arrays[name] = GrowingArray(self._folder / f"{name}.npy", values.dtype)
        self._arrays[name].append(values)
