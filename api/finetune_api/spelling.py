"""What somebody meant who wrote a field or a value that there is not."""

import re
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from inspect import isclass
from typing import Any, get_args

from pydantic import BaseModel

SIMILARITY = 0.7
"""Of difflib's ratio: a letter or two of a word; snake_case and upper case are no difference at all."""
OTHERS = ("status", "metadata")
"""Nobody writes these."""
QUOTED = re.compile(r"'([^']*)'")


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that this one is likely to be."""
    folded = {_folded(one): one for one in known}
    found = get_close_matches(_folded(word), folded, n=1, cutoff=SIMILARITY)
    return folded[found[0]] if found else None


def _folded(word: str) -> str:
    return word.replace("_", "").replace("-", "").lower()


def value_meant(word: Any, expected: str) -> str:
    """For a message that lists, in quotes, the values that there are: one of them as a question, or nothing."""
    found = closest(word, QUOTED.findall(expected)) if isinstance(word, str) else None
    return f"; did you mean {found!r}?" if found else ""


def field_meant(model: type[BaseModel], location: Sequence[int | str]) -> str | None:
    """The field that an unknown one is likely to be: one of that very name elsewhere, or one beside it."""
    *parents, name = location
    if elsewhere := list(_paths_of(str(name), model, "", ())):
        return elsewhere[0] if len(elsewhere) == 1 else None
    beside = model_at(model, parents)
    return closest(str(name), _wire_names(beside)) if beside else None


def model_at(model: type[BaseModel], location: Sequence[int | str]) -> type[BaseModel] | None:
    """The model of the object at a place that an error names; None where there is none."""
    found: type[BaseModel] | None = model
    for part in location:
        if found is not None and isinstance(part, str):
            annotations = [
                field.annotation for name, field in found.model_fields.items() if part in (field.alias, name)
            ]
            found = model_in(annotations[0]) if annotations else None
    return found


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The first model that a type speaks of: that of `list[Model] | None`, too."""
    if isclass(annotation) and issubclass(annotation, BaseModel):
        return annotation
    found = (model for one in get_args(annotation) if (model := model_in(one)))
    return next(found, None)


def _wire_names(model: type[BaseModel]) -> Iterator[str]:
    return (field.alias or name for name, field in model.model_fields.items())


def _paths_of(word: str, model: type[BaseModel], path: str, above: tuple[type[BaseModel], ...]) -> Iterator[str]:
    """Of every field with this name below a model."""
    for name, field in model.model_fields.items():
        here = f"{path}.{field.alias or name}" if path else field.alias or name
        inner = model_in(field.annotation)
        if name in OTHERS:
            continue
        if (field.alias or name) == word:
            yield here
        if inner and inner not in above:
            yield from _paths_of(word, inner, here, (*above, inner))
