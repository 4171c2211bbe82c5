"""Grafana's schema of dashboards as JSON Schema.

Grafana publishes it as CUE and generates the classes of its SDK from that; here it is read back from those classes:
names and what is required from their `to_json`, types from their annotations. Nothing else is allowed.
https://github.com/grafana/grafana-foundation-sdk
"""

import inspect
import re
import types
import typing
from enum import Enum
from typing import Any

from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import dashboard, prometheus, stat, timeseries

Schema = dict[str, Any]
SCALARS: dict[Any, Schema] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    object: {},
    Any: {},
}
PANELS: dict[str, Any] = {"stat": stat, "timeseries": timeseries}
"""Type of a panel → the module with its options and the settings of its fields."""
QUERIES = (prometheus.Dataquery,)


def dashboard_schema() -> Schema:
    """Of one dashboard with the panels and queries above."""
    definitions: dict[str, Schema] = {}
    root = _of_class(dashboard.Dashboard, definitions)
    panel, field_config = (definitions[name] for name in ("dashboard.Panel", "dashboard.FieldConfig"))
    panel["properties"]["type"] = {"enum": [*PANELS]}
    field_config["properties"]["custom"] = {}  # the panel's, below
    panel["allOf"] = [
        {
            "if": {"properties": {"type": {"const": name}}},
            "then": {"properties": _of_panel(module, definitions)},
        }
        for name, module in PANELS.items()
    ]
    return root | {"$defs": definitions}


def _of_panel(module: Any, definitions: dict[str, Schema]) -> Schema:
    custom = _of_class(module.FieldConfig, definitions) if hasattr(module, "FieldConfig") else False
    of_fields = {"properties": {"defaults": {"properties": {"custom": custom}}}}
    return {"options": _of_class(module.Options, definitions), "fieldConfig": of_fields}


def _of_class(kind: type, definitions: dict[str, Schema]) -> Schema:
    name = f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}"
    if name not in definitions:
        definitions[name] = {}  # it may hold itself
        always, properties = _fields(kind)
        hints = typing.get_type_hints(kind)
        definitions[name] |= {
            "type": "object",
            "properties": {key: _of_type(hints[attribute], definitions) for key, attribute in properties.items()},
            "required": always,
            "additionalProperties": False,
        }
    return {"$ref": f"#/$defs/{name}"}


def _fields(kind: Any) -> tuple[list[str], dict[str, str]]:
    """Names that are always written, and the attribute of each name."""
    source = inspect.getsource(kind.to_json)
    always = dict(re.findall(r'^\s+"(\w+)": self\.(\w+),$', source, re.MULTILINE))
    at_times = dict(re.findall(r'payload\["(\w+)"\] = self\.(\w+)$', source, re.MULTILINE))
    return [*always], always | at_times


def _of_type(hint: Any, definitions: dict[str, Schema]) -> Schema:
    if hint in SCALARS:
        return SCALARS[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_of_type(one, definitions) for one in arguments if one is not types.NoneType]}
    if origin is typing.Literal:
        return {"enum": [*arguments]}
    if origin is list:
        return {"type": "array", "items": _of_type(arguments[0], definitions)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _of_type(arguments[1], definitions)}
    if hint is Dataquery:
        return {"anyOf": [_of_class(one, definitions) for one in QUERIES]}
    if issubclass(hint, Enum):
        return {"enum": [one.value for one in hint]}
    return _of_class(hint, definitions)
