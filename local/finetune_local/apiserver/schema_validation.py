"""Validation of custom resources against their structural schema, with the messages of the real API server.

Built-in kinds use the same walk for `required`, `enum` and `minimum`; their other rules are in builtin/.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

from finetune_local.apiserver.schema import Schema, SchemaCompiler
from finetune_local.apiserver.status_error import (
    Cause,
    duplicate_value,
    invalid_value,
    required,
    too_long,
    too_many,
    unsupported_value,
    wrong_type,
)
from finetune_local.apiserver.string_formats import FORMATS


def validate(schema: Schema, value: Any, path: str = "", *, decoded: bool = False) -> list[Cause]:
    """All violations. A `decoded` value has the right JSON types already: subtrees without constraints are skipped."""
    return list(_validate(schema, value, path, decoded))


def _validate(schema: Schema, value: Any, path: str, decoded: bool) -> Iterator[Cause]:
    if decoded and not schema.constrained:
        return
    if value is None:
        if not schema.nullable and (schema.type or schema.int_or_string):
            yield _type_error(schema, value, path)
        return
    if not _type_matches(schema, value):
        yield _type_error(schema, value, path)
        return
    yield from _keywords(schema, value, path)
    match value:
        case dict():
            yield from _object(schema, value, path, decoded)
        case list():
            yield from _array(schema, value, path, decoded)
        case str():
            yield from _string(schema, value, path)
        case int() | float() if not isinstance(value, bool):
            yield from _number(schema, value, path, f"{path} in body should" if not decoded else "must")


TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int | float) and not isinstance(value, bool) and value == int(value),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
}


def _type_matches(schema: Schema, value: Any) -> bool:
    if schema.int_or_string:
        return isinstance(value, str) or TYPES["integer"](value)
    return not schema.type or TYPES[schema.type](value)


def _type_error(schema: Schema, value: Any, path: str) -> Cause:
    shown = json_type(value)
    expected = "integer,string" if schema.int_or_string else schema.type
    return wrong_type(path or "<nil>", shown, f'{path} in body must be of type {expected}: "{shown}"')


def json_type(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
    return "object"


def _keywords(schema: Schema, value: Any, path: str) -> Iterator[Cause]:
    raw = schema.raw
    if "enum" in raw and value not in raw["enum"]:
        yield unsupported_value(path, value, raw["enum"])
    if "allOf" in raw or "anyOf" in raw or "oneOf" in raw or "not" in raw:
        yield from _combinators(raw, value, path)


def _combinators(raw: dict[str, Any], value: Any, path: str) -> Iterator[Cause]:
    """allOf, anyOf, oneOf and not hold value validations only: structural schemas forbid types in them."""
    for part in raw.get("allOf", ()):
        yield from _validate(_compiled(part), value, path, False)
    if "anyOf" in raw and not any(_holds(part, value) for part in raw["anyOf"]):
        yield invalid_value(path, value, f'"{path}" must validate at least one schema (anyOf)')
    if "oneOf" in raw and (matched := sum(_holds(part, value) for part in raw["oneOf"])) != 1:
        tail = "Found none valid" if not matched else f"Found {matched} valid alternatives"
        yield invalid_value(path, value, f'"{path}" must validate one and only one schema (oneOf). {tail}')
    if "not" in raw and _holds(raw["not"], value):
        yield invalid_value(path, value, f'"{path}" must not validate the schema (not)')


_compiled_parts: dict[int, tuple[dict[str, Any], Schema]] = {}


def _compiled(part: dict[str, Any]) -> Schema:
    """Combinator branches are few and live as long as their CRD: compiled at first use, kept by identity."""
    held = _compiled_parts.get(id(part))
    if held is None or held[0] is not part:
        held = _compiled_parts[id(part)] = (part, SchemaCompiler().compile(part))
    return held[1]


def _holds(part: dict[str, Any], value: Any) -> bool:
    return next(_validate(_compiled(part), value, "", False), None) is None


def _object(schema: Schema, value: dict[str, Any], path: str, decoded: bool) -> Iterator[Cause]:
    for name in schema.required:
        if name not in value:
            yield required(join(path, name))
    raw = schema.raw
    if "minProperties" in raw and len(value) < raw["minProperties"]:
        yield invalid_value(path, len(value), f"{path} in body should have at least {raw['minProperties']} properties")
    if "maxProperties" in raw and len(value) > raw["maxProperties"]:
        yield too_many(path, len(value), raw["maxProperties"])
    for key, item in value.items():
        child = schema.child(key)
        if child is not None and (child.constrained or not decoded):
            yield from _validate(child, item, join(path, key), decoded)


def _array(schema: Schema, value: list[Any], path: str, decoded: bool) -> Iterator[Cause]:
    raw = schema.raw
    if "minItems" in raw and len(value) < raw["minItems"]:
        yield invalid_value(path, len(value), f"{path} in body should have at least {raw['minItems']} items")
    if "maxItems" in raw and len(value) > raw["maxItems"]:
        yield too_many(path, len(value), raw["maxItems"])
    yield from _unique(schema, value, path)
    if schema.items is not None:
        for index, item in enumerate(value):
            yield from _validate(schema.items, item, f"{path}[{index}]", decoded)


def _unique(schema: Schema, value: list[Any], path: str) -> Iterator[Cause]:
    """Items of sets and the keys of map lists are unique."""
    if schema.list_type not in ("set", "map"):
        return
    seen: set[str] = set()
    for index, item in enumerate(value):
        if schema.list_type == "map":
            if not isinstance(item, dict):
                continue
            item = {key: item.get(key) for key in schema.map_keys}
        rendered = repr(item)
        if rendered in seen:
            yield duplicate_value(f"{path}[{index}]", item)
        seen.add(rendered)


def _string(schema: Schema, value: str, path: str) -> Iterator[Cause]:
    raw = schema.raw
    if "minLength" in raw and len(value) < raw["minLength"]:
        yield invalid_value(path, value, f"{path} in body should be at least {raw['minLength']} chars long")
    if "maxLength" in raw and len(value) > raw["maxLength"]:
        yield too_long(path, raw["maxLength"])
    if schema.pattern is not None and not schema.pattern.search(value):
        yield invalid_value(path, value, f"{path} in body should match '{raw['pattern']}'")
    check = FORMATS.get(schema.format)
    if check is not None and not check(value):
        yield invalid_value(path, value, f'{path} in body must be of type {schema.format}: "{value}"')


def _number(schema: Schema, value: float, path: str, subject: str) -> Iterator[Cause]:
    raw = schema.raw
    minimum, maximum = raw.get("minimum", -math.inf), raw.get("maximum", math.inf)
    if value < minimum or (value == minimum and raw.get("exclusiveMinimum")):
        bound = "greater than" if raw.get("exclusiveMinimum") else "greater than or equal to"
        yield invalid_value(path, value, f"{subject} be {bound} {minimum}")
    if value > maximum or (value == maximum and raw.get("exclusiveMaximum")):
        bound = "less than" if raw.get("exclusiveMaximum") else "less than or equal to"
        yield invalid_value(path, value, f"{subject} be {bound} {maximum}")
    step = raw.get("multipleOf")
    if step and not math.isclose(value / step, round(value / step), rel_tol=1e-12):
        yield invalid_value(path, value, f"{subject} be a multiple of {step}")
    if schema.format == "int32" and not -(2**31) <= value < 2**31:
        yield invalid_value(path, value, f"{path} in body must be of type int32")


def join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
