"""Builds meta.k8s.io Tables."""

import time
from collections.abc import Sequence
from typing import Any

import orjson

from finetune_local.apiserver import object_codec
from finetune_local.apiserver.http.negotiation import TableFormat
from finetune_local.apiserver.resource_type import Column, ResourceType
from finetune_local.apiserver.revision_store import StoredObject
from finetune_local.apiserver.tables.durations import age
from finetune_local.apiserver.tables.json_path import find
from finetune_local.apiserver.watching import Event

Object = dict[str, Any]
NAME = Column("Name", "string", "name", "Name must be unique within a namespace.")
CREATED = Column("Created At", "date", "", "CreationTimestamp is the time when this object was created.")


def render_table(
    resource: ResourceType,
    items: Sequence[StoredObject],
    revision: str,
    wanted: TableFormat,
    *,
    continue_: str = "",
    remaining: int | None = None,
) -> bytes:
    bodies = [
        item.body if object_codec.is_stored_form(resource) else object_codec.from_storage(resource, item)
        for item in items
    ]
    meta: Object = {"resourceVersion": revision or (bodies[0]["metadata"]["resourceVersion"] if bodies else "")}
    if continue_:
        meta["continue"] = continue_
    if remaining:
        meta["remainingItemCount"] = remaining
    return orjson.dumps(_table(resource, bodies, meta, wanted, with_columns=True))


def table_event(resource: ResourceType, event: Event, wanted: TableFormat, *, with_columns: bool) -> Event:
    """A watch event whose object is a Table of one row. Columns come with the first event only."""
    body = orjson.loads(event.object)
    meta = {"resourceVersion": body["metadata"].get("resourceVersion", "")}
    if event.type == "BOOKMARK":
        table = _table(resource, [], meta, wanted, with_columns=with_columns)
        table["metadata"] = body["metadata"]
    else:
        table = _table(resource, [body], meta, wanted, with_columns=with_columns)
    return Event(event.type, orjson.dumps(table))


def _table(
    resource: ResourceType, bodies: Sequence[Object], meta: Object, wanted: TableFormat, *, with_columns: bool
) -> Object:
    now = time.time()
    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{wanted.version}",
        "metadata": meta,
        "columnDefinitions": [_definition(column) for column in columns(resource)] if with_columns else None,
        "rows": [_row(resource, body, wanted, now) for body in bodies],
    }


def columns(resource: ResourceType) -> list[Column]:
    if _places_its_name(resource):
        return list(resource.columns)
    return [NAME, *(resource.columns or (CREATED,))]


def _places_its_name(resource: ResourceType) -> bool:
    """Events do: their names say nothing, and come last."""
    return any(column.format == "name" and not column.json_path for column in resource.columns)


def _definition(column: Column) -> Object:
    return {
        "name": column.name,
        "type": column.type,
        "format": column.format,
        "description": column.description,
        "priority": column.priority,
    }


def _row(resource: ResourceType, body: Object, wanted: TableFormat, now: float) -> Object:
    name = [] if _places_its_name(resource) else [body["metadata"]["name"]]
    row: Object = {"cells": [*name, *_cells(resource, body, now)]}
    if wanted.include_object == "Object":
        row["object"] = body
    elif wanted.include_object == "Metadata":
        row["object"] = {
            "kind": "PartialObjectMetadata",
            "apiVersion": f"meta.k8s.io/{wanted.version}",
            "metadata": body["metadata"],
        }
    return row


def _cells(resource: ResourceType, body: Object, now: float) -> list[Any]:
    if resource.row is not None:
        return resource.row(body, now)
    if not resource.columns:
        return [body["metadata"].get("creationTimestamp")]
    return [custom_cell(column, body, now) for column in resource.columns]


def custom_cell(column: Column, body: Object, now: float) -> Any:
    """The cell of a CRD column; null where the object has no such value."""
    found = find(body, column.json_path)
    if not found or found[0] is None:
        return None
    value = found[0]
    match column.type:
        case "date":
            return age(str(value), now)
        case "string":
            return ",".join(map(text, found)) if len(found) > 1 else text(value)
        case "integer":
            return int(value) if isinstance(value, int | float) else None
        case "number":
            return value if isinstance(value, int | float) else None
        case "boolean":
            return value if isinstance(value, bool) else None
    return None


def text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return orjson.dumps(value).decode()
