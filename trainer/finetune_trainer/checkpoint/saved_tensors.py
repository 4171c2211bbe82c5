"""Tensors of a checkpoint that are read one at a time: a rank need not hold what belongs to others."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor


def share_file(file: str, rank: int) -> str:
    """Name of a rank's share of a file; rank 0's has the plain name."""
    stem, suffix = file.rsplit(".", 1)
    return f"{stem}-{rank:05d}.{suffix}" if rank else file


def shares_of(folder: Path, file: str) -> list[Path]:
    """The shares of a file that there are, however many ranks wrote them."""
    stem, suffix = file.rsplit(".", 1)
    return [path for path in (folder / file, *sorted(folder.glob(f"{stem}-[0-9]*.{suffix}"))) if path.exists()]


class SavedTensors(Mapping[str, Tensor]):
    """The tensors in some safetensors files, by name. The files are mapped: only what is touched is read."""

    def __init__(self, files: list[Path]) -> None:
        self._file_of: dict[str, Any] = {}
        for path in files:
            file: Any = safe_open(path, framework="pt")
            self._file_of |= dict.fromkeys(file.keys(), file)

    def __getitem__(self, name: str) -> Tensor:
        tensor: Tensor = self._file_of[name].get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._file_of)

    def __len__(self) -> int:
        return len(self._file_of)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every tensor; none is read."""
        return {name: tuple(file.get_slice(name).get_shape()) for name, file in self._file_of.items()}
