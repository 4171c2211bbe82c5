"""Which schemas a CRD may carry: the rules of structural schemas (apiextensions.k8s.io/v1)."""

from collections.abc import Iterator
from typing import Any

from finetune_local.apiserver.schema import SchemaCompiler
from finetune_local.apiserver.schema_validation import validate
from finetune_local.apiserver.status_error import Cause, forbidden_field, invalid_value, required, unsupported_value

Raw = dict[str, Any]
TYPES = ("array", "boolean", "integer", "number", "object", "string")
FORBIDDEN = (
    "$ref",
    "definitions",
    "dependencies",
    "deprecated",
    "id",
    "patternProperties",
    "readOnly",
    "writeOnly",
    "xml",
)
IN_COMBINATORS = ("type", "default", "additionalProperties", "nullable", "description", "title")


def structural_errors(schema: Raw, path: str) -> list[Cause]:
    """Every violation, each with the path of its node."""
    errors = list(_node(schema, path))
    if schema.get("type") != "object":
        errors.append(invalid_value(f"{path}.type", schema.get("type", ""), "must be object at the root"))
    return errors


def _node(schema: Raw, path: str) -> Iterator[Cause]:
    if not isinstance(schema, dict):
        yield invalid_value(path, schema, "must be a schema object")
        return
    yield from _keywords(schema, path)
    yield from _lists(schema, path)
    yield from _default(schema, path)
    yield from _combinators(schema, path)
    for name, child in (schema.get("properties") or {}).items():
        yield from _node(child, f"{path}.properties[{name}]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from _node(schema["additionalProperties"], f"{path}.additionalProperties")
    if isinstance(schema.get("items"), dict):
        yield from _node(schema["items"], f"{path}.items")


def _keywords(schema: Raw, path: str) -> Iterator[Cause]:
    typeless = schema.get("x-kubernetes-int-or-string") or schema.get("x-kubernetes-preserve-unknown-fields")
    kind = schema.get("type")
    if not kind and not typeless:
        yield required(f"{path}.type", "must not be empty for specified object fields")
    if kind and kind not in TYPES:
        yield unsupported_value(f"{path}.type", kind, TYPES)
    if kind and schema.get("x-kubernetes-int-or-string"):
        yield forbidden_field(f"{path}.type", "must be empty if x-kubernetes-int-or-string is true")
    if schema.get("properties") and "additionalProperties" in schema:
        yield forbidden_field(
            f"{path}.additionalProperties", "additionalProperties and properties are mutual exclusive"
        )
    if schema.get("uniqueItems"):
        yield forbidden_field(
            f"{path}.uniqueItems", "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        )
    for keyword in FORBIDDEN:
        if keyword in schema:
            yield forbidden_field(f"{path}.{keyword}", f"{keyword} is not supported")
    if kind == "array" and not isinstance(schema.get("items"), dict):
        yield required(f"{path}.items", "must be specified")


def _lists(schema: Raw, path: str) -> Iterator[Cause]:
    if schema.get("x-kubernetes-list-type") != "map":
        return
    keys = schema.get("x-kubernetes-list-map-keys")
    if not keys:
        yield required(f"{path}.x-kubernetes-list-map-keys", "must not be empty if x-kubernetes-list-type is map")
        return
    item = schema.get("items") or {}
    properties = item.get("properties") or {}
    for key in keys:
        if key not in properties:
            yield invalid_value(
                f"{path}.x-kubernetes-list-map-keys", keys, "entries must all be names of item properties"
            )
        elif key not in (item.get("required") or ()) and "default" not in properties[key]:
            yield required(
                f"{path}.items.properties[{key}].default",
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            )


def _default(schema: Raw, path: str) -> Iterator[Cause]:
    if "default" not in schema:
        return
    compiled = SchemaCompiler().compile(schema)
    yield from validate(compiled, schema["default"], f"{path}.default")


def _combinators(schema: Raw, path: str) -> Iterator[Cause]:
    for keyword in ("allOf", "anyOf", "oneOf"):
        for index, part in enumerate(schema.get(keyword) or ()):
            if not (schema.get("x-kubernetes-int-or-string") and set(part) == {"type"}):
                yield from _combinator_part(part, f"{path}.{keyword}[{index}]")
    if "not" in schema:
        yield from _combinator_part(schema["not"], f"{path}.not")


def _combinator_part(schema: Raw, path: str) -> Iterator[Cause]:
    for keyword in IN_COMBINATORS:
        if keyword in schema:
            yield forbidden_field(f"{path}.{keyword}", "must be empty to be structural")
    for name, child in (schema.get("properties") or {}).items():
        yield from _combinator_part(child, f"{path}.properties[{name}]")
