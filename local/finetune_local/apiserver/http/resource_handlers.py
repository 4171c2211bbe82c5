"""The verbs of a resource: one handler a verb, chosen by method and path."""

from dataclasses import replace as replaced
from typing import Any

import orjson
from aiohttp import web

from finetune_local.apiserver import object_codec
from finetune_local.apiserver.delete_operations import (
    RETURNS_OBJECT,
    delete,
    deletion_status,
    matching,
)
from finetune_local.apiserver.http.bodies import media_type, read_object
from finetune_local.apiserver.http.calls import Call, Handler
from finetune_local.apiserver.http.negotiation import Format, TableFormat, wanted_format
from finetune_local.apiserver.http.parameters import flag, is_dry_run, list_options, watch_options
from finetune_local.apiserver.http.responses import json_response
from finetune_local.apiserver.http.watch_stream import stream_watch
from finetune_local.apiserver.partial_metadata import render_metadata_list
from finetune_local.apiserver.reading import Page, list_kind, matcher
from finetune_local.apiserver.request_options import DeleteOptions, ListOptions
from finetune_local.apiserver.resource_type import ResourceType
from finetune_local.apiserver.revision_store import StoredObject
from finetune_local.apiserver.status_error import bad_request
from finetune_local.apiserver.subresources.posting import post_special
from finetune_local.apiserver.tables.rendering import render_table


async def get_one(call: Call) -> web.StreamResponse:
    call.require_verb("get")
    return call.respond(call.cluster.operations.require(call.resource, call.info.namespace, call.info.name))


async def list_or_watch(call: Call) -> web.StreamResponse:
    query = call.request.query
    wanted = wanted_format(call.request)
    if flag(query, "watch"):
        call.require_verb("watch")
        return await stream_watch(call.cluster, call.request, call.resource, call.info.namespace, watch_options(query))
    call.require_verb("list")
    page = call.cluster.reader.list_page(call.resource, call.info.namespace, list_options(query))
    return json_response(_render_page(call.resource, page, wanted))


def _render_page(resource: ResourceType, page: Page, wanted: Format | None) -> bytes:
    if wanted is None:
        return page.render(resource)
    if not isinstance(wanted, TableFormat):
        return render_metadata_list(resource, page, wanted)
    return render_table(
        resource, page.items, str(page.revision), wanted, continue_=page.continue_, remaining=page.remaining
    )


async def create(call: Call) -> web.StreamResponse:
    call.require_verb("create")
    body = await read_object(call.request)
    answer = post_special(call.cluster, call.resource, call.info, body, call.user)
    if answer is not None:
        return json_response(answer, 201)
    options, operations = call.write_options(), call.cluster.operations
    stored = await call.cluster.admission.admit(
        lambda new, run: operations.create(call.resource, call.info.namespace, new, run), body, options
    )
    return call.respond(stored, 201, options.warnings)


async def replace(call: Call) -> web.StreamResponse:
    call.require_verb("update")
    body = await read_object(call.request)
    options = call.write_options()
    info, operations = call.info, call.cluster.operations
    stored = await call.cluster.admission.admit(
        lambda new, run: operations.update(call.resource, info.namespace, info.name, new, run, info.subresource),
        body,
        options,
    )
    return call.respond(stored, 200, options.warnings)


async def patch(call: Call) -> web.StreamResponse:
    call.require_verb("patch")
    body = await read_object(call.request)
    options, kind = call.write_options(), media_type(call.request)
    info, operations = call.info, call.cluster.operations
    stored, created = await call.cluster.admission.admit(
        lambda new, run: operations.patch(call.resource, info.namespace, info.name, new, kind, run, info.subresource),
        body,
        options,
    )
    return call.respond(stored, 201 if created else 200, options.warnings)


async def _delete_options(call: Call) -> DeleteOptions:
    """From the body, the query, or both (kubectl sends a body, curl often a query)."""
    body: Any = await read_object(call.request)
    if not isinstance(body, dict):
        raise bad_request("DeleteOptions must be an object")
    query = call.request.query
    if "propagationPolicy" in query:
        body = {"propagationPolicy": query["propagationPolicy"]} | body
    if "gracePeriodSeconds" in query:
        body = {"gracePeriodSeconds": int(query["gracePeriodSeconds"])} | body
    if is_dry_run(query):
        body = {"dryRun": ["All"]} | body
    return replaced(DeleteOptions.from_body(body), user=call.user)


async def delete_one(call: Call) -> web.StreamResponse:
    call.require_verb("delete")
    options = await _delete_options(call)
    stored, gone = await _admitted_delete(call, call.info.namespace, call.info.name, options)
    if gone and call.resource.key not in RETURNS_OBJECT:
        return json_response(deletion_status(call.resource, stored), 200, options.warnings)
    return call.respond(stored, 200, options.warnings)


async def _admitted_delete(call: Call, namespace: str, name: str, options: DeleteOptions) -> tuple[StoredObject, bool]:
    operations = call.cluster.operations
    return await call.cluster.admission.admit(
        lambda _body, run: delete(operations, call.resource, namespace, name, run), None, options
    )


async def delete_many(call: Call) -> web.StreamResponse:
    call.require_verb("deletecollection")
    options = await _delete_options(call)
    wanted: ListOptions = list_options(call.request.query)
    matches = matcher(call.resource, wanted.label_selector, wanted.field_selector) or (lambda _body: True)
    deleted = []
    for stored in matching(call.cluster.operations, call.resource, call.info.namespace, matches):
        meta = stored.body["metadata"]
        after, _ = await _admitted_delete(call, meta.get("namespace", ""), meta["name"], options)
        deleted.append(after)
    head = {
        "kind": list_kind(call.resource),
        "apiVersion": call.resource.api_version,
        "metadata": {"resourceVersion": str(call.cluster.store.revision)},
        "items": [orjson.Fragment(object_codec.present(call.resource, one)) for one in deleted],
    }
    return json_response(orjson.dumps(head), 200, options.warnings)


COLLECTION: dict[str, Handler] = {"GET": list_or_watch, "POST": create, "DELETE": delete_many}
OBJECT: dict[str, Handler] = {"GET": get_one, "PUT": replace, "PATCH": patch, "DELETE": delete_one}
STATUS: dict[str, Handler] = {"GET": get_one, "PUT": replace, "PATCH": patch}


def choose(call: Call) -> Handler | None:
    """None when the path exists but the method does not. Subresources other than status are elsewhere."""
    info, resource, method = call.info, call.resource, call.request.method
    if info.subresource == "status":
        return STATUS.get(method) if resource.status_subresource else None
    return (OBJECT if info.name else COLLECTION).get(method)
