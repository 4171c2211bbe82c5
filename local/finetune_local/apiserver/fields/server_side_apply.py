"""Server-side apply: merge what a manager applies, drop what it no longer applies, and guard what others own."""

from typing import Any

from finetune_local.apiserver.fields import managed_fields
from finetune_local.apiserver.fields.compare import Comparison, compare
from finetune_local.apiserver.fields.field_set import (
    SELF,
    FieldSet,
    combine,
    difference,
    display,
    from_value,
    has_self,
    intersection,
    is_granular,
    is_keyed,
    item_key,
    items_by_key,
    paths,
)
from finetune_local.apiserver.fields.managed_fields import Manager, Managers, Ownership, visible
from finetune_local.apiserver.object_meta import timestamp
from finetune_local.apiserver.schema import FREE_FORM, Schema
from finetune_local.apiserver.status_error import StatusError

Object = dict[str, Any]


def apply(schema: Schema, live: Object | None, applied: Object, manager: Manager, force: bool) -> Object:
    """The object after the apply, with managedFields; not yet defaulted or validated.

    Raises 409 FieldManagerConflict when another manager owns a field that would change, unless `force`.
    """
    managers = managed_fields.decode(live)
    claimed = from_value(schema, visible(applied))
    before = managers[manager].fields if manager in managers else {}
    merged = merge(schema, live or {}, applied)
    others = {other: ownership for other, ownership in managers.items() if other != manager}
    merged = _prune(schema, merged, before, claimed, others)
    change = compare(schema, visible(live or {}), visible(merged))
    _check_conflicts(others, change, force)
    merged.setdefault("metadata", {})["managedFields"] = managed_fields.encode(
        _transfer(managers, manager, claimed, change)
    )
    return merged


def merge(schema: Schema, live: Any, applied: Any) -> Any:
    """`applied` over `live`; neither is changed."""
    if is_granular(schema, live) and is_granular(schema, applied):
        merged = dict(live)
        for key, value in applied.items():
            child = schema.child(key) or FREE_FORM
            merged[key] = merge(child, live[key], value) if key in live else value
        return merged
    if is_keyed(schema, live) and is_keyed(schema, applied):
        return _merge_keyed(schema, live, applied)
    return applied


def _merge_keyed(schema: Schema, live: list[Any], applied: list[Any]) -> list[Any]:
    """In the order of `applied`; items that only `live` has keep their place before the item that followed them."""
    items = schema.items or FREE_FORM
    stored = items_by_key(schema, live)
    wanted = items_by_key(schema, applied)
    pending = list(stored)
    merged: list[Any] = []
    for key, item in wanted.items():
        if key in pending:
            cut = pending.index(key)
            merged += [stored[other] for other in pending[:cut] if other not in wanted]
            pending = [other for other in pending[cut + 1 :] if other not in wanted or other in pending]
        merged.append(merge(items, stored[key], item) if key in stored else item)
    return merged + [stored[other] for other in pending if other not in wanted]


def _prune(schema: Schema, merged: Object, before: FieldSet, claimed: FieldSet, others: Managers) -> Object:
    """Removes what this manager applied before, applies no longer, and nobody else owns."""
    dropped = difference(before, claimed)
    for ownership in others.values():
        if not dropped:
            return merged
        dropped = difference(dropped, ownership.fields)
    if not dropped:
        return merged
    owned = claimed
    for ownership in others.values():
        owned = combine(owned, ownership.fields)
    pruned: Object = _remove(schema, merged, dropped, owned)
    return pruned


def _remove(schema: Schema, value: Any, dropped: FieldSet, owned: FieldSet) -> Any:
    if isinstance(value, dict):
        return _remove_fields(schema, value, dropped, owned)
    if is_keyed(schema, value):
        return _remove_items(schema, value, dropped, owned)
    return value


def _remove_fields(schema: Schema, value: Object, dropped: FieldSet, owned: FieldSet) -> Object:
    kept = dict(value)
    for element, below in dropped.items():
        key = element[2:]
        if element == SELF or key not in kept:
            continue
        still_owned = owned.get(element)
        if has_self(below) and still_owned is None:
            del kept[key]
            continue
        child = _remove(schema.child(key) or FREE_FORM, kept[key], below, still_owned or {})
        if child or child == kept[key] or still_owned is not None:
            kept[key] = child
        else:
            del kept[key]
    return kept


def _remove_items(schema: Schema, value: list[Any], dropped: FieldSet, owned: FieldSet) -> list[Any]:
    kept = []
    for item in value:
        key = item_key(schema, item)
        below = dropped.get(key)
        if below is None:
            kept.append(item)
        elif not (has_self(below) and key not in owned):
            kept.append(_remove(schema.items or FREE_FORM, item, below, owned.get(key, {})))
    return kept


def _check_conflicts(others: Managers, change: Comparison, force: bool) -> None:
    conflicts = [
        (other, display(path))
        for other, ownership in others.items()
        for path in paths(intersection(ownership.fields, change.changed))
    ]
    if conflicts and not force:
        raise _conflict_error(conflicts)


def _conflict_error(conflicts: list[tuple[Manager, str]]) -> StatusError:
    if len(conflicts) == 1:
        other, path = conflicts[0]
        message = f"Apply failed with 1 conflict: conflict with {other.describe()}: {path}"
    else:
        lines = []
        for other in sorted({other for other, _ in conflicts}, key=Manager.describe):
            lines += [f"conflicts with {other.describe()}:"]
            lines += [f"- {path}" for owner, path in conflicts if owner == other]
        message = f"Apply failed with {len(conflicts)} conflicts: " + "\n".join(lines)
    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {other.describe()}", "field": path}
        for other, path in conflicts
    ]
    return StatusError(409, "Conflict", message, causes=causes)


def _transfer(managers: Managers, manager: Manager, claimed: FieldSet, change: Comparison) -> Managers:
    """Changed and removed fields leave the other managers; this one owns exactly what it applied."""
    touched = combine(change.changed, change.removed)
    result: Managers = {}
    for other, ownership in managers.items():
        rest = difference(ownership.fields, touched) if touched else ownership.fields
        if other != manager and rest:
            result[other] = ownership if rest is ownership.fields else Ownership(rest, ownership.time)
    unchanged = manager in managers and managers[manager].fields == claimed
    if claimed:
        result[manager] = managers[manager] if unchanged else Ownership(claimed, timestamp())
    return result
