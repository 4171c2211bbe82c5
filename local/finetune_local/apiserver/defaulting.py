"""Structural defaulting: absent properties take their default, wherever their parent exists."""

from typing import Any

import orjson

from finetune_local.apiserver.schema import MISSING, Schema


def apply_defaults(schema: Schema, value: Any) -> None:
    """Fills `value` in place. A null of a property that has a default and is not nullable counts as absent."""
    if not schema.has_defaults:
        return
    if isinstance(value, dict):
        _default_properties(schema, value)
        for key, item in value.items():
            child = schema.child(key)
            if child is not None and child.has_defaults:
                apply_defaults(child, item)
    elif isinstance(value, list) and schema.items is not None:
        for item in value:
            apply_defaults(schema.items, item)


def _default_properties(schema: Schema, value: dict[str, Any]) -> None:
    for key, default in schema.defaulted:
        current = value.get(key, MISSING)
        if current is MISSING or (current is None and not schema.properties[key].nullable):
            value[key] = orjson.loads(orjson.dumps(default)) if isinstance(default, dict | list) else default
