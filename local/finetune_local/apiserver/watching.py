"""WATCH: replays the window of changes and follows it, with selectors, bookmarks and initial events."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from finetune_local.apiserver import object_codec
from finetune_local.apiserver.reading import matcher
from finetune_local.apiserver.request_options import WatchOptions
from finetune_local.apiserver.resource_type import ResourceType
from finetune_local.apiserver.revision_store import Change, Collection, RevisionStore, StoredObject
from finetune_local.apiserver.status_error import StatusError, bad_request, too_large

Object = dict[str, Any]
BOOKMARK_SECONDS = 30.0
MIN_TIMEOUT, MAX_TIMEOUT = 1800.0, 3600.0
INITIAL_EVENTS_END = "k8s.io/initial-events-end"


@dataclass(frozen=True)
class Event:
    """One watch event; `object` holds JSON."""

    type: str
    object: bytes

    def line(self) -> bytes:
        return b'{"type":"' + self.type.encode() + b'","object":' + self.object + b"}\n"


class Watcher:
    """One watch. `start` raises what the request itself is refused with; `events` then runs until the watch ends."""

    def __init__(self, store: RevisionStore, resource: ResourceType, namespace: str, options: WatchOptions) -> None:
        self._store = store
        self._resource = resource
        self._namespace = namespace
        self._options = options
        self._matches = matcher(resource, options.label_selector, options.field_selector)
        self._collection: Collection = store.collection(resource.key)
        self._initial: list[StoredObject] = []
        self._position = 0
        self._sent_revision = 0
        self._wake = asyncio.Event()
        self.cut = False  # set by tests to end the stream without a word

    def start(self) -> None:
        """Fixes the point in history that the watch starts from. Raises BadRequest, Expired or Timeout."""
        options, store = self._options, self._store
        _check_options(options)
        revision = int(options.resource_version or 0)
        if revision > store.revision:
            raise too_large(revision, store.revision)
        if options.send_initial_events or revision == 0:
            self._initial = [item for item in self._collection.items(self._namespace) if self._accepts(item.body)]
            revision = store.revision
        self._position = self._collection.position_after(revision, store.revision)
        self._sent_revision = revision

    def _accepts(self, body: Object) -> bool:
        if self._namespace and body["metadata"].get("namespace") != self._namespace:
            return False
        return self._matches is None or self._matches(body)

    async def events(self) -> AsyncIterator[Event]:
        deadline = time.monotonic() + self._timeout()
        self._collection.waiters.add(self._wake)
        try:
            for item in self._initial:
                yield Event("ADDED", self._render(item))
            if self._options.send_initial_events:
                yield self._bookmark(initial_end=True)
            async for event in self._follow(deadline):
                yield event
        finally:
            self._collection.waiters.discard(self._wake)

    def _timeout(self) -> float:
        wanted = self._options.timeout_seconds
        return wanted if wanted else random.uniform(MIN_TIMEOUT, MAX_TIMEOUT)

    async def _follow(self, deadline: float) -> AsyncIterator[Event]:
        bookmark_at = time.monotonic() + BOOKMARK_SECONDS
        while not self.cut:
            self._wake.clear()
            try:
                for event in self._pending():
                    yield event
            except StatusError as error:
                yield Event("ERROR", orjson.dumps(error.status()))
                return
            now = time.monotonic()
            if now >= deadline or self._collection.closed:
                return
            if self._options.allow_bookmarks and now >= bookmark_at:
                bookmark_at = now + BOOKMARK_SECONDS
                yield self._bookmark()
            await self._sleep(min(deadline, bookmark_at) - now)

    async def _sleep(self, seconds: float) -> None:
        if self._wake.is_set():
            return
        handle = asyncio.get_running_loop().call_later(max(seconds, 0.0), self._wake.set)
        try:
            await self._wake.wait()
        finally:
            handle.cancel()

    def interrupt(self) -> None:
        """Ends the stream at once, as a lost connection would."""
        self.cut = True
        self._wake.set()

    def _pending(self) -> Iterator[Event]:
        """Changes since the last look. The window may have moved past a watch that lagged: 410 in the stream."""
        collection = self._collection
        while True:
            if self._position < collection.dropped:
                collection.position_after(self._sent_revision, self._store.revision)
                self._position = collection.dropped
            index = self._position - collection.dropped
            if index >= len(collection.history) or self.cut:
                return
            change = collection.history[index]
            self._position += 1
            self._sent_revision = change.revision
            event = self._event(change)
            if event is not None:
                yield event

    def _event(self, change: Change) -> Event | None:
        """An object that starts or stops matching looks created or deleted."""
        after, before = change.after.body, change.before.body if change.before else None
        now = change.type != "DELETED" and self._accepts(after)
        then = before is not None and self._accepts(before)
        if now:
            return Event("MODIFIED" if then else "ADDED", self._render(change.after))
        if then:
            return Event("DELETED", self._render(change.after))
        return None

    def _render(self, stored: StoredObject) -> bytes:
        return object_codec.present(self._resource, stored)

    def _bookmark(self, initial_end: bool = False) -> Event:
        if not initial_end:
            self._sent_revision = self._store.revision
        meta: Object = {"resourceVersion": str(self._sent_revision), "creationTimestamp": None}
        if initial_end:
            meta["annotations"] = {INITIAL_EVENTS_END: "true"}
        body = {"kind": self._resource.kind, "apiVersion": self._resource.api_version, "metadata": meta}
        return Event("BOOKMARK", orjson.dumps(body))


def _check_options(options: WatchOptions) -> None:
    text = options.resource_version
    if text and not text.isdigit():
        raise bad_request(f'Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax')
    if options.send_initial_events and options.resource_version_match != "NotOlderThan":
        message = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        raise _invalid_list_options("resourceVersionMatch", message)
    if options.resource_version_match and not options.send_initial_events:
        raise _invalid_list_options(
            "resourceVersionMatch", "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        )


def _invalid_list_options(field: str, message: str) -> StatusError:
    return StatusError(
        422,
        "Invalid",
        f'ListOptions.meta.k8s.io "" is invalid: {field}: Forbidden: {message}',
        group="meta.k8s.io",
        kind="ListOptions",
        causes=[{"reason": "FieldValueForbidden", "message": f"Forbidden: {message}", "field": field}],
    )
