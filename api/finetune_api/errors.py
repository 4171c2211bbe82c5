"""Validation errors as a person reads them: field path, what is wrong, the value."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from finetune_api.spelling import field_meant, value_meant


@dataclass(frozen=True)
class FieldError:
    """One thing wrong with a resource."""

    path: str
    message: str
    value: Any = None

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class Problems(ValueError):
    """Several things that do not fit together; each message begins with the path of a field."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))

    @classmethod
    def check(cls, problems: Iterable[str], collected: Any = None) -> None:
        """Raises all of them at once, if there are any; or adds them to a list that the caller of pydantic gave."""
        found = tuple(problems)
        if isinstance(collected, list):
            collected.extend(found)
        elif found:
            raise cls(found)


MOST_TOLD = 50
"""Errors of one resource: nobody reads more, and each takes room in the answer."""


def told(errors: list[str]) -> list[str]:
    """As many of the errors as a person can use."""
    left = len(errors) - MOST_TOLD
    return errors if left <= 0 else [*errors[:MOST_TOLD], f"and {left} errors more, told once these are mended"]


def field_errors(error: ValidationError, model: type[BaseModel]) -> list[FieldError]:
    """Every error of a pydantic validation of `model`, in the order of the fields.

    What was meant is guessed for as many as are told: of 20,000 unknown fields it would take a minute.
    """
    return [
        one
        for place, detail in enumerate(error.errors(include_url=False))
        for one in _field_errors(detail, model, guess=place < MOST_TOLD)
    ]


PATH = re.compile(r"[a-z]\w*(\.\w+|\[\d+\])*")


def field_of(message: str) -> str:
    """The path that an error message begins with; empty when it begins with something else."""
    found = PATH.match(message)
    return found[0] if found else ""


def _field_errors(detail: Any, model: type[BaseModel], *, guess: bool) -> Iterator[FieldError]:
    raised = (detail.get("ctx") or {}).get("error")
    if isinstance(raised, Problems):
        yield from (FieldError(_path(detail["loc"]), problem) for problem in raised.problems)
    else:
        yield _field_error(detail, model, guess=guess)


SHAPES = {"model_type": "an object", "dict_type": "an object", "list_type": "a list"}
"""Of what pydantic wants, by the type of its error."""


def _field_error(detail: Any, model: type[BaseModel], *, guess: bool) -> FieldError:
    value = detail.get("input")
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        meant = field_meant(model, detail["loc"]) if guess else None
        message = f"unknown field; {f'did you mean {meant}?' if meant else 'remove it or correct its spelling'}"
    elif detail["type"] == "missing":
        message = "required"
    elif detail["type"] in SHAPES or (isinstance(value, (dict, list)) and detail["type"].endswith("_type")):
        message = f"must be {SHAPES.get(detail['type'], 'a single value')}; got {_shape(value)}"
    elif not isinstance(value, (dict, list, BaseModel)):
        meant = value_meant(value, str((detail.get("ctx") or {}).get("expected", ""))) if guess else ""
        message = f"{message[0].lower()}{message[1:]}; got {value!r}{meant}"
    return FieldError(_path(detail["loc"]), message, value)


def _shape(value: Any) -> str:
    if isinstance(value, list):
        return "a list, see its dashes"
    return "an object" if isinstance(value, dict) else repr(value)


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path
