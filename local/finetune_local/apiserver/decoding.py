"""Decoding of request bodies: what a typed Go decoder does for built-in kinds, and pruning for custom resources.

Both report unknown fields, which strict field validation refuses: `unknown field "spec.replicaz"`.
"""

import re
from typing import Any

from finetune_local.apiserver.schema import Schema
from finetune_local.apiserver.status_error import bad_request
from finetune_operator.kube.quantities import is_quantity

QUANTITY_PATTERN = "^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$"
"""As the real server words it; what it accepts is narrower."""
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)\Z")


class TypedDecoder:
    """Copies a JSON value as the Go type would hold it: nulls and unknown fields gone, quantities as text."""

    def __init__(self, kind: str, version: str) -> None:
        self._kind = kind
        self._version = version
        self.unknown: list[str] = []

    def decode(self, schema: Schema, value: Any, path: str = "") -> Any:
        """Raises BadRequest when a value has the wrong JSON type."""
        if schema.type == "object":
            return self._object(schema, value, path)
        if schema.type == "array":
            if not isinstance(value, list):
                raise self._mismatch(value, path, "[]" + (schema.items.type if schema.items else ""))
            item = schema.items
            assert item is not None
            return [self.decode(item, element, f"{path}[{index}]") for index, element in enumerate(value)]
        return self._scalar(schema, value, path)

    def _object(self, schema: Schema, value: Any, path: str) -> Any:
        if not isinstance(value, dict):
            raise self._mismatch(value, path, "map")
        decoded = {}
        for key, item in value.items():
            child = schema.child(key)
            below = f"{path}.{key}" if path else key
            if child is None:
                if schema.preserve_unknown:
                    decoded[key] = item
                else:
                    self.unknown.append(below)
            elif item is not None:
                decoded[key] = self.decode(child, item, below)
        return decoded

    def _scalar(self, schema: Schema, value: Any, path: str) -> Any:
        match schema.type:
            case "string":
                return self._string(schema, value, path)
            case "boolean" if not isinstance(value, bool):
                raise self._mismatch(value, path, "bool")
            case "integer":
                return self._integer(value, path)
            case "number" if isinstance(value, bool) or not isinstance(value, int | float):
                raise self._mismatch(value, path, "float64")
        if schema.int_or_string and (isinstance(value, bool) or not isinstance(value, int | str)):
            raise self._mismatch(value, path, "intstr.IntOrString")
        return value

    def _string(self, schema: Schema, value: Any, path: str) -> str:
        if schema.format == "quantity" and isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str):
            raise self._mismatch(value, path, "string")
        if schema.format == "quantity" and not is_quantity(value):
            raise self._bad(f"quantities must match the regular expression '{QUANTITY_PATTERN}'")
        if schema.format == "date-time" and not TIMESTAMP.match(value):
            raise self._bad(f'parsing time "{value}" as "2006-01-02T15:04:05Z07:00": cannot parse field {path}')
        return value

    def _integer(self, value: Any, path: str) -> int:
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._mismatch(value, path, "int32")
        return value

    def _mismatch(self, value: Any, path: str, expected: str) -> Exception:
        return self._bad(
            f"json: cannot unmarshal {json_kind(value)} into Go struct field {self._kind}.{path} of type {expected}"
        )

    def _bad(self, message: str) -> Exception:
        return bad_request(f'{self._kind} in version "{self._version}" cannot be handled as a {self._kind}: {message}')


def prune(schema: Schema, value: Any, path: str, unknown: list[str]) -> None:
    """Removes, in place, the fields that a structural schema does not name; lists their paths in `unknown`."""
    if isinstance(value, dict):
        _prune_object(schema, value, path, unknown)
    elif isinstance(value, list) and schema.items is not None:
        for index, item in enumerate(value):
            prune(schema.items, item, f"{path}[{index}]", unknown)


def _prune_object(schema: Schema, value: dict[str, Any], path: str, unknown: list[str]) -> None:
    for key in list(value):
        child = schema.child(key)
        below = f"{path}.{key}" if path else key
        if child is not None:
            prune(child, value[key], below, unknown)
        elif not schema.preserve_unknown and not (schema.embedded_resource and key in RESOURCE_KEYS):
            del value[key]
            unknown.append(below)


RESOURCE_KEYS = ("apiVersion", "kind", "metadata")


def json_kind(value: Any) -> str:
    match value:
        case bool():
            return "bool"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case dict():
            return "object"
    return "null"
