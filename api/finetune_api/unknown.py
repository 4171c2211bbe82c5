"""A resource of which some fields are wrong, as far as it can be judged without them.

Who mends one error at a time has to apply many times. So where a field has the wrong type, the others are still held
against each other: the wrong one is `UNKNOWN`, and a check that looks at it decides nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from inspect import signature
from types import SimpleNamespace
from typing import Annotated, Any, NoReturn, TypeVar, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from finetune_api.errors import FieldError, Problems, field_errors
from finetune_api.spelling import model_in

Model = TypeVar("Model", bound=BaseModel)
Check = Callable[[], Iterable[str]]
MOST_ENTRIES = 100
"""Of a list that is wrong somewhere: longer ones are refused for their length, and not looked into."""
LOOKS = (
    "bool eq ne lt le gt ge hash contains iter len getitem call str repr format int float index "
    "add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod pow neg abs or ror and rand"
)


ON_THE_WIRE: Any = {"by_alias": True, "by_name": False}
"""The API server knows `learningRate` only, and drops a `learning_rate`."""


class Undecidable(Exception):
    """A check has looked at a field that is not known."""


def _look(*_: object) -> NoReturn:
    raise Undecidable


UNKNOWN: Any = type("Unknown", (), {f"__{name}__": _look for name in ("getattr", *LOOKS.split())})()
"""Stands for a wrong value. That there is one may be asked (`is None`), everything else raises Undecidable."""


def the_one(chosen: Sequence[str]) -> str:
    """Of what exactly one must be set."""
    if len(chosen) != 1:
        raise Undecidable
    return chosen[0]


def decidable(*checks: Check) -> Iterator[str]:
    """What the checks find, each up to where it looks at something unknown."""
    for check in checks:
        try:
            yield from check()
        except (Undecidable, PydanticSerializationError):
            continue


def read(model: type[Model], raw: Any) -> tuple[Model, list[str]]:
    """The resource, with UNKNOWN for what is wrong in it, and every error, each with the path of its field."""
    misfits: list[str] = []
    try:
        return model.model_validate(raw, context=misfits, **ON_THE_WIRE), misfits
    except ValidationError as error:
        found = [str(one) for one in field_errors(error, model)]
    more: list[str] = []
    made = _as_far_as_known(model, raw, "", more)
    return made, list(dict.fromkeys((*found, *more)))


def _as_far_as_known(model: type[BaseModel], raw: Any, path: str, errors: list[str]) -> Any:
    """The model, with whatever of it can be read."""
    if not isinstance(raw, dict):
        return UNKNOWN
    values = {name: _field(model, name, raw, path, errors) for name in model.model_fields}
    made = model.model_construct(**values)
    errors += (str(FieldError(path, problem)) for problem in decidable(*_rules(made)))
    return made


def _field(model: type[BaseModel], name: str, raw: dict[str, Any], path: str, errors: list[str]) -> Any:
    field = model.model_fields[name]
    wire = field.alias or name
    given = raw.get(wire, raw)
    if given is raw:
        return UNKNOWN if field.is_required() else field.get_default(call_default_factory=True)
    try:
        return _adapter(model, name).validate_python(given, **ON_THE_WIRE)
    except ValidationError:
        return _inner(field.annotation, given, f"{path}.{wire}" if path else wire, errors)


def _inner(annotation: Any, given: Any, path: str, errors: list[str]) -> Any:
    """What is known of a value that is wrong somewhere: of a model, or of each in a list."""
    model = model_in(annotation)
    if model is None or isinstance(given, list) is not _is_list(annotation):
        return UNKNOWN
    if isinstance(given, list):
        if len(given) > MOST_ENTRIES:
            return UNKNOWN
        return [_as_far_as_known(model, one, f"{path}[{place}]", errors) for place, one in enumerate(given)]
    return _as_far_as_known(model, given, path, errors)


def _is_list(annotation: Any) -> bool:
    """Of models: also that of `list[Model] | None`. No field takes both one and several."""
    return get_origin(annotation) is list or any(_is_list(one) for one in get_args(annotation))


@cache
def _adapter(model: type[BaseModel], name: str) -> TypeAdapter[Any]:
    field = model.model_fields[name]
    annotation: Any = field.annotation
    return TypeAdapter(Annotated[annotation, *field.metadata] if field.metadata else annotation)


def _rules(made: BaseModel) -> Iterator[Check]:
    """The model's own validators of several fields, as checks."""
    for name, decorator in type(made).__pydantic_decorators__.model_validators.items():
        if decorator.info.mode == "after":
            yield _rule(getattr(made, name))


def _rule(validator: Callable[..., Any]) -> Check:
    takes_info = bool(signature(validator).parameters)

    def check() -> Iterable[str]:
        try:
            validator(*((SimpleNamespace(context=None),) if takes_info else ()))
        except PydanticSerializationError:  # a ValueError, too
            raise
        except Problems as found:
            return found.problems
        except ValueError as found:
            return (str(found),)
        return ()

    return check
