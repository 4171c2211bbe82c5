"""What an update changed, as field sets."""

from dataclasses import dataclass, field
from typing import Any

from finetune_local.apiserver.fields.field_set import (
    SELF,
    FieldSet,
    is_granular,
    is_keyed,
    item_key,
    items_by_key,
)
from finetune_local.apiserver.schema import FREE_FORM, MISSING, Schema


@dataclass
class Comparison:
    """Fields of the new value that are new or have changed, and fields of the old value that are gone."""

    changed: FieldSet = field(default_factory=dict)
    removed: FieldSet = field(default_factory=dict)

    @property
    def same(self) -> bool:
        return not self.changed and not self.removed


def compare(schema: Schema, old: Any, new: Any) -> Comparison:
    """Of two objects (the roots)."""
    result = Comparison()
    _compare_members(
        {"f:" + key: (schema.child(key) or FREE_FORM, value) for key, value in old.items()},
        {"f:" + key: (schema.child(key) or FREE_FORM, value) for key, value in new.items()},
        result,
    )
    return result


Members = dict[str, tuple[Schema, Any]]


def _compare_members(old: Members, new: Members, result: Comparison) -> None:
    for key, (schema, value) in new.items():
        before = old[key][1] if key in old else MISSING
        if before is MISSING:
            result.changed[key] = _all_fields(schema, value)
        elif before != value or isinstance(before, bool) != isinstance(value, bool):
            _compare_values(key, schema, before, value, result)
    for key, (schema, value) in old.items():
        if key not in new:
            result.removed[key] = _all_fields(schema, value)


def _all_fields(schema: Schema, value: Any) -> FieldSet:
    """A value that comes or goes as a whole: its fields and the nodes between them."""
    if isinstance(value, dict) and schema.map_type != "atomic":
        below = {"f:" + key: _all_fields(schema.child(key) or FREE_FORM, item) for key, item in value.items()}
    elif isinstance(value, list) and schema.list_type in ("map", "set"):
        items = schema.items or FREE_FORM
        below = {item_key(schema, item): _all_fields(items, item) for item in value}
    else:
        return {}
    if below:
        below[SELF] = {}
    return below


def _compare_values(key: str, schema: Schema, old: Any, new: Any, result: Comparison) -> None:
    old_members, new_members = _members(schema, old), _members(schema, new)
    if old_members is None or new_members is None:
        result.changed[key] = _all_fields(schema, new)
        return
    below = Comparison()
    _compare_members(old_members, new_members, below)
    if below.changed:
        result.changed[key] = below.changed
    if below.removed:
        result.removed[key] = below.removed


def _members(schema: Schema, value: Any) -> Members | None:
    """The separately owned parts of a value; None for one that is owned as a whole."""
    if is_granular(schema, value):
        return {"f:" + key: (schema.child(key) or FREE_FORM, item) for key, item in value.items()}
    if is_keyed(schema, value):
        return {key: (schema.items or FREE_FORM, item) for key, item in items_by_key(schema, value).items()}
    return None
