"""metadata.managedFields: who owns which fields, after each kind of write (structured-merge-diff's Updater)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from finetune_local.apiserver.fields.compare import Comparison, compare
from finetune_local.apiserver.fields.field_set import FieldSet, combine, difference
from finetune_local.apiserver.object_meta import timestamp
from finetune_local.apiserver.schema import Schema

Object = dict[str, Any]
OWNED_META = ("labels", "annotations", "ownerReferences", "finalizers", "generateName")
MAX_UPDATE_MANAGERS = 10
ANCIENT = "ancient-changes"


@dataclass(frozen=True)
class Manager:
    """Identity of an owner of fields."""

    name: str
    operation: str  # Apply or Update
    api_version: str
    subresource: str = ""

    def describe(self) -> str:
        text = f'"{self.name}"'
        if self.subresource:
            text += f' with subresource "{self.subresource}"'
        return text + (f" using {self.api_version}" if self.operation == "Update" else "")


@dataclass(frozen=True)
class Ownership:
    fields: FieldSet
    time: str


Managers = dict[Manager, Ownership]


def decode(body: Object | None) -> Managers:
    managers: Managers = {}
    for entry in (body or {}).get("metadata", {}).get("managedFields") or ():
        if not entry:
            continue
        manager = Manager(
            entry.get("manager", "unknown"),
            entry.get("operation", "Update"),
            entry.get("apiVersion", ""),
            entry.get("subresource", ""),
        )
        managers[manager] = Ownership(entry.get("fieldsV1") or {}, entry.get("time", ""))
    return managers


def encode(managers: Managers) -> list[Object]:
    """Appliers first, then by time, as the real server orders them."""
    ordered = sorted(
        managers.items(), key=lambda item: (item[0].operation, item[1].time, item[0].name, item[0].subresource)
    )
    return [_entry(manager, ownership) for manager, ownership in ordered]


def _entry(manager: Manager, ownership: Ownership) -> Object:
    entry = {
        "manager": manager.name,
        "operation": manager.operation,
        "apiVersion": manager.api_version,
        "time": ownership.time,
        "fieldsType": "FieldsV1",
        "fieldsV1": ownership.fields,
    }
    return entry | ({"subresource": manager.subresource} if manager.subresource else {})


def visible(body: Object) -> Object:
    """The part of an object whose fields are owned: no identity and nothing that the server sets."""
    owned = {key: value for key, value in body.items() if key not in ("apiVersion", "kind", "metadata")}
    meta = {key: value for key, value in body.get("metadata", {}).items() if key in OWNED_META}
    return owned | ({"metadata": meta} if meta else {})


def track_update(schema: Schema, old: Object | None, new: Object, manager: Manager) -> None:
    """Gives what a create, update or patch changed to its manager; sets metadata.managedFields of `new`."""
    managers = _starting_point(old, new)
    change = compare(schema, visible(old) if old else {}, visible(new))
    if not change.same:
        managers = _transfer(managers, manager, change)
    if managers:
        new["metadata"]["managedFields"] = encode(managers)
    else:
        new["metadata"].pop("managedFields", None)


def _starting_point(old: Object | None, new: Object) -> Managers:
    """A request that sends `managedFields: [{}]` resets the ownership; any other keeps what is stored."""
    if new["metadata"].get("managedFields") == [{}]:
        return {}
    return decode(old)


def _transfer(managers: Managers, manager: Manager, change: Comparison) -> Managers:
    touched = combine(change.changed, change.removed)
    result = {other: rest for other, rest in _without(managers, touched) if other != manager}
    own = managers[manager].fields if manager in managers else {}
    own = combine(difference(own, change.removed), change.changed)
    if own:
        result[manager] = Ownership(own, timestamp())
    return _capped(result)


def _without(managers: Managers, touched: FieldSet) -> Iterator[tuple[Manager, Ownership]]:
    for manager, ownership in managers.items():
        rest = difference(ownership.fields, touched)
        if rest:
            yield manager, Ownership(rest, ownership.time)


def _capped(managers: Managers) -> Managers:
    """At most ten updaters are told apart; the oldest are lumped together."""
    updaters = sorted(
        (item for item in managers.items() if item[0].operation == "Update"), key=lambda item: item[1].time
    )
    excess = updaters[: max(0, len(updaters) - MAX_UPDATE_MANAGERS)]
    if not excess:
        return managers
    excess = updaters[: len(excess) + 1]
    result = {manager: ownership for manager, ownership in managers.items() if (manager, ownership) not in excess}
    for manager, ownership in excess:
        ancient = Manager(ANCIENT, "Update", manager.api_version, manager.subresource)
        before = result[ancient].fields if ancient in result else {}
        result[ancient] = Ownership(combine(before, ownership.fields), ownership.time)
    return result
