"""Validation errors as a person reads them: field path, what is wrong, the value."""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError


@dataclass(frozen=True)
class FieldError:
    """One thing wrong with a resource."""

    path: str
    message: str
    value: Any = None

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


def field_errors(error: ValidationError) -> list[FieldError]:
    """Every error of a pydantic validation, in the order of the fields."""
    return [_field_error(detail) for detail in error.errors(include_url=False)]


def _field_error(detail: Any) -> FieldError:
    value = detail.get("input")
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        message = "unknown field; remove it or correct its spelling"
    elif detail["type"] == "missing":
        message = "required"
    elif not isinstance(value, (dict, list, BaseModel)):
        message = f"{message[0].lower()}{message[1:]}; got {value!r}"
    return FieldError(_path(detail["loc"]), message, value)


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path
