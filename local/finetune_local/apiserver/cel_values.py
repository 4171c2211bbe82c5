"""How values of a schema look to CEL: numbers are doubles and property names are identifiers.

Strings of format date-time and duration stay text, as the library takes no others inside an object: a rule that writes
`duration(self.timeout)` works here and on a cluster. See https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules
"""

import re
from typing import Any

from finetune_local.apiserver.schema import Schema

RESERVED = frozenset(
    [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ]
)
SYMBOLS = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}


def escape_name(name: str) -> str:
    """`a-b` is `a__dash__b` in a rule, a reserved word `if` is `__if__`."""
    if name in RESERVED:
        return f"__{name}__"
    return re.sub(r"__|[.\-/]", lambda match: SYMBOLS[match.group()], name)


def mark_conversions(schema: Schema) -> None:
    """Finds, once, the subtrees whose values must be converted. Children are marked before their parents."""
    scalar = schema.type == "number"
    names = any(escape_name(name) != name for name in schema.properties)
    schema.cel_converts = scalar or names or any(child.cel_converts for child in schema.children())


def cel_value(schema: Schema, value: Any) -> Any:
    if not schema.cel_converts:
        return value
    match value:
        case dict():
            return {_name(schema, key): _child_value(schema, key, item) for key, item in value.items()}
        case list() if schema.items is not None:
            return [cel_value(schema.items, item) for item in value]
        case int() if schema.type == "number" and not isinstance(value, bool):
            return float(value)
    return value


def _name(schema: Schema, key: str) -> str:
    return escape_name(key) if key in schema.properties else key


def _child_value(schema: Schema, key: str, item: Any) -> Any:
    child = schema.child(key)
    return item if child is None else cel_value(child, item)
