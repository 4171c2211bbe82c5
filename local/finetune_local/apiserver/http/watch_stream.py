"""Watches over HTTP: one JSON line an event, as long as the client listens."""

import orjson
from aiohttp import web

from finetune_local.apiserver.cluster import Cluster
from finetune_local.apiserver.http.negotiation import Format, TableFormat, wanted_format
from finetune_local.apiserver.partial_metadata import metadata_event
from finetune_local.apiserver.request_options import WatchOptions
from finetune_local.apiserver.resource_type import ResourceType
from finetune_local.apiserver.status_error import StatusError
from finetune_local.apiserver.tables.rendering import table_event
from finetune_local.apiserver.watching import Event, Watcher


async def stream_watch(
    cluster: Cluster, request: web.Request, resource: ResourceType, namespace: str, options: WatchOptions
) -> web.StreamResponse:
    watcher = Watcher(cluster.store, resource, namespace, options)
    refusal = _start(watcher)
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Cache-Control": "no-cache, private"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    if refusal is not None:
        await response.write(refusal.line())
        return response
    wanted = wanted_format(request)
    cluster.watchers.add(watcher)
    first = True
    try:
        async for event in watcher.events():
            shown = _shown(resource, event, wanted, first=first)
            first = first and event.type == "ERROR"
            await cluster.faults.thawed.wait()
            await response.write(shown.line())
    except (ConnectionResetError, ConnectionError):
        return response  # the client has gone
    finally:
        cluster.watchers.discard(watcher)
    if watcher.cut:
        cut_connection(request)
    return response


def _shown(resource: ResourceType, event: Event, wanted: Format | None, *, first: bool) -> Event:
    if wanted is None or event.type == "ERROR":
        return event
    if isinstance(wanted, TableFormat):
        return table_event(resource, event, wanted, with_columns=first)
    return metadata_event(event, wanted)


def _start(watcher: Watcher) -> Event | None:
    """An expired version is told in the stream, as the real server's watch cache does; other refusals are raised."""
    try:
        watcher.start()
    except StatusError as error:
        if error.code != 410:
            raise
        return Event("ERROR", orjson.dumps(error.status()))
    return None


def cut_connection(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
