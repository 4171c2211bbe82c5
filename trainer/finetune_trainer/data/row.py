"""One record of the data, and where it stands."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple


class Where(NamedTuple):
    """The place of a row, for error messages; line 0 is the whole file."""

    file: str
    line: int
    unit: str = "line"

    def __str__(self) -> str:
        if not self.line:
            return self.file
        return f"{self.file} {self.unit} {self.line}"


@dataclass(frozen=True, slots=True)
class Row:
    """One record, as it stands in the file."""

    values: dict[str, Any]
    where: Where
    folder: Path = Path()
    """What paths in it are relative to."""
