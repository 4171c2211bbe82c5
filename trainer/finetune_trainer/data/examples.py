"""An example, and how a row's columns become one."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import orjson

from finetune_trainer.data.reading import Row, Where
from finetune_trainer.errors import DataError


class EmptyTextError(DataError):
    """A text that is needed is empty: cleaning may pass over such a row."""

    rule: ClassVar = "empty"


class BadFileError(DataError):
    """A file that a row names is missing or cannot be read: cleaning may pass over such a row."""

    rule: ClassVar = "badFiles"


@dataclass(frozen=True, slots=True)
class Example:
    """One example before it is encoded."""

    content: Any
    """What the model is given, as JSON: a text, a (prompt, completion) pair, a list of turns …"""
    where: Where
    label: str | None = None
    """Its class, where it has one."""
    stratum: str | None = None
    target: Any = None
    """What is to be found, where that is not a class: entities of a text …"""
    group: str | None = None
    """Examples of one group stay in one part."""
    soft_label: np.ndarray | None = None
    """Log-probabilities of the classes, as a teacher sees it."""
    altered: bool = False
    """Whether augmentation made it of another."""

    @property
    def identity(self) -> bytes:
        """Equal for examples with the same input, whatever their label."""
        return hashlib.sha256(orjson.dumps(self.content)).digest()


def column(row: Row, name: str, field: str) -> Any:
    """The value of a column, which must be there. `field` is the name under `dataset.columns`."""
    value = row.values.get(name)
    if value is None and name not in row.values:
        there = ", ".join(row.values) or "none"
        raise DataError(f"{row.where}: no column {name!r}; the columns are: {there}. Set {field} to one of them")
    return value


def text_column(row: Row, name: str, field: str) -> str:
    """The value of a column that must hold text that is not empty."""
    value = column(row, name, field)
    if not isinstance(value, str | None):
        raise DataError(f"{row.where}: column {name!r} holds {_shown(value)}, not text")
    if value is None or not value.strip():  # in Parquet and JSON what is empty in CSV is null
        raise EmptyTextError(
            f"{row.where}: column {name!r} is empty; give it a text, remove the row, or set dataset.cleaning.empty to "
            "Drop"
        )
    return value


def label_column(row: Row, name: str, field: str) -> str:
    """A class as text: a string, an integer or a boolean."""
    return _name_column(row, name, field, "label")


def _name_column(row: Row, name: str, field: str, kind: str) -> str:
    value = column(row, name, field)
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int):
        raise DataError(f"{row.where}: column {name!r} holds {_shown(value)}; a {kind} is a string or an integer")
    if not str(value).strip():
        raise DataError(f"{row.where}: column {name!r} is empty; every example needs a {kind}")
    return str(value)


def in_group(example: Example, row: Row, name: str) -> Example:
    """The example with the group that `split.groupBy` keeps together."""
    return replace(example, group=_name_column(row, name, "dataset.split.groupBy", "group"))


def in_stratum(example: Example, row: Row, name: str) -> Example:
    """The example with the group that `split.stratifyBy` keeps in proportion."""
    return replace(example, stratum=_name_column(row, name, "dataset.split.stratifyBy", "stratum"))


def _shown(value: Any) -> str:
    text = "null" if value is None else f"{type(value).__name__} {value!r}"
    return text if len(text) <= 80 else text[:77] + "..."
