"""Sets of field paths in the FieldsV1 form: {"f:spec": {"f:replicas": {}}, "k:{...}": {".": {}}}.

A set is a nested dict. A key "." in a node says that the node itself is a member, a leaf `{}` is a member too.
Algorithms: sigs.k8s.io/structured-merge-diff/v6/fieldpath and typed.
"""

from collections.abc import Iterator
from typing import Any

import orjson

from finetune_local.apiserver.schema import FREE_FORM, MISSING, Schema

FieldSet = dict[str, Any]
SELF = "."


def is_leaf(node: FieldSet) -> bool:
    return not node


def has_self(node: FieldSet) -> bool:
    return not node or SELF in node


def union(left: FieldSet, right: FieldSet) -> FieldSet:
    """Members of either; neither argument is changed, parts may be shared."""
    if not left and not right:
        return {}
    merged = dict(left) if left else {SELF: {}}
    for key, value in (right or {SELF: {}}).items():
        merged[key] = union(merged[key], value) if key in merged and key != SELF else value
    return merged


def combine(left: FieldSet, right: FieldSet) -> FieldSet:
    """Union of two whole sets, where an empty root means no members (below the root it would mean the node itself)."""
    if not left:
        return right
    return union(left, right) if right else left


def difference(left: FieldSet, right: FieldSet) -> FieldSet:
    """Members of `left` that are not members of `right`. Empty when nothing is left."""
    result = {}
    for key, value in left.items():
        if key not in right:
            result[key] = value
            continue
        rest = _node_difference(value, right[key])
        if rest is not None:
            result[key] = rest
    return result


def _node_difference(left: FieldSet, right: FieldSet) -> FieldSet | None:
    if is_leaf(left):
        return None if has_self(right) else left
    rest = difference({key: value for key, value in left.items() if key != SELF}, right)
    if SELF in left and not has_self(right):
        return rest | {SELF: {}} if rest else {}
    return rest or None


def intersection(left: FieldSet, right: FieldSet) -> FieldSet:
    """Members of both."""
    result = {}
    for key, value in left.items():
        if key in right and key != SELF:
            common = _node_intersection(value, right[key])
            if common is not None:
                result[key] = common
    return result


def _node_intersection(left: FieldSet, right: FieldSet) -> FieldSet | None:
    below = intersection(left, right)
    if has_self(left) and has_self(right):
        return below | {SELF: {}} if below else {}
    return below or None


def item_key(schema: Schema, item: Any) -> str:
    """The path element of a list item: its keys for map lists, its value for sets."""
    if schema.list_type == "set":
        return "v:" + orjson.dumps(item, option=orjson.OPT_SORT_KEYS).decode()
    keys = {}
    for key in schema.map_keys:
        value = item.get(key, MISSING) if isinstance(item, dict) else MISSING
        if value is MISSING and schema.items is not None and key in schema.items.properties:
            value = schema.items.properties[key].default
        if value is not MISSING:
            keys[key] = value
    return "k:" + orjson.dumps(keys, option=orjson.OPT_SORT_KEYS).decode()


def items_by_key(schema: Schema, items: list[Any]) -> dict[str, Any]:
    return {item_key(schema, item): item for item in items}


def is_keyed(schema: Schema, value: Any) -> bool:
    """A list whose items are owned one by one."""
    return isinstance(value, list) and schema.list_type in ("map", "set")


def is_granular(schema: Schema, value: Any) -> bool:
    """An object whose fields are owned one by one. Objects without a schema are granular too (deduced)."""
    return isinstance(value, dict) and schema.map_type != "atomic"


def from_value(schema: Schema, value: Any) -> FieldSet:
    """The set of all fields that a value has: what an apply request claims."""
    if isinstance(value, dict) and schema.map_type != "atomic":
        return _from_object(schema, value)
    if isinstance(value, list) and schema.list_type in ("map", "set"):
        items = schema.items or FREE_FORM
        return {
            item_key(schema, item): from_value(items, item) | {SELF: {}} if isinstance(item, dict) else {}
            for item in value
        }
    return {}


def _from_object(schema: Schema, value: dict[str, Any]) -> FieldSet:
    found: FieldSet = {}
    for key, item in value.items():
        child = schema.properties.get(key)
        below = from_value(child or schema.additional or FREE_FORM, item)
        if below and child is None and not schema.preserve_unknown:
            below[SELF] = {}
        found["f:" + key] = below
    return found


def paths(node: FieldSet, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every member, as a tuple of path elements."""
    if prefix and has_self(node):
        yield prefix
    for key, value in node.items():
        if key != SELF:
            yield from paths(value, (*prefix, key))


def display(path: tuple[str, ...]) -> str:
    """`.spec.containers[name="main"].image`, as conflict messages write it."""
    return "".join(_display_element(element) for element in path)


def _display_element(element: str) -> str:
    kind, _, text = element.partition(":")
    if kind == "f":
        return "." + text
    if kind == "k":
        keys = orjson.loads(text)
        return "[" + ",".join(f"{key}={orjson.dumps(value).decode()}" for key, value in keys.items()) + "]"
    return f"[={text}]"
