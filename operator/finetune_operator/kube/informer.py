"""A cache of one kind that stays true: list, watch, and list again when the watch can't tell what was missed."""

import asyncio
import logging
import math
import random
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import cast

from finetune_operator.kube.backoff import Backoff
from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.errors import ApiError, Object, Objects, error_from_status
from finetune_operator.kube.index import Indexer, Name
from finetune_operator.kube.metrics import (
    INFORMER_AGE,
    INFORMER_ERRORS,
    INFORMER_LISTS,
    INFORMER_OBJECTS,
    INFORMER_WATCHES,
)
from finetune_operator.kube.resources import Kind
from finetune_operator.kube.store import Packed, Store, Transform

log = logging.getLogger(__name__)

Handler = Callable[[Object | None, Object | None], None]
Handlers = list[Handler]
PackedItems = list[Packed]


@dataclass(frozen=True)
class WatchTiming:
    """Seconds. The server ends each watch after a random time, so that a fleet of them does not return as one."""

    shortest_watch: int = 240
    longest_watch: int = 360
    first_backoff: float = 0.8
    longest_backoff: float = 30.0
    premature: float = 1.0
    """A watch that ends sooner than this, without an event, counts as a failure."""
    doubts_before_list: int = 3
    """So many answers in a row that are no stream, and the version itself is doubted: list again. A server that
    does not answer, or asks for a pause, is no reason to list: the version will do when it is back."""


class Informer:
    """Watches one kind and calls the handlers with each change.

    Deleted objects are reported also when the deletion was missed: each list is compared with the cache.
    Objects in the cache are shared: never change one. With `packed` they are kept as text, see `Store`: for kinds of
    which there are thousands. A page of a list is there as dicts for a moment, many times what is kept of it: informers
    that share `paging` take turns with theirs.
    """

    def __init__(
        self,
        api: KubeApi,
        kind: Kind,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        transform: Transform | None = None,
        indexers: Mapping[str, Indexer] | None = None,
        packed: bool = False,
        page_size: int = 500,
        paging: asyncio.Lock | None = None,
        timing: WatchTiming | None = None,
    ) -> None:
        self.kind = kind
        self.namespace = namespace
        self.synced = asyncio.Event()
        self.refused = asyncio.Event()
        """It was not allowed to list its one namespace: with a namespace that is deleted go the Roles in it."""
        self._api = api
        self._selectors = {"label_selector": label_selector, "field_selector": field_selector}
        self._page_size = page_size
        self._paging = paging or asyncio.Lock()
        self._timing = timing or WatchTiming()
        self._backoff = Backoff(self._timing.first_backoff, self._timing.longest_backoff)
        self._store = Store(kind, transform, indexers or {}, packed=packed)
        self._handlers: Handlers = []
        self._version: str | None = None
        self._doubts = 0
        self._heard_at = self._moved_at = time.monotonic()
        self._labels = (kind.plural, namespace or "")
        INFORMER_AGE.labels(*self._labels).set_function(self.last_event_age)
        INFORMER_OBJECTS.labels(*self._labels).set_function(lambda: len(self._store))

    def add_handler(self, on_change: Handler) -> None:
        """`on_change(old, new)`: (None, new) added, (old, new) changed, (old, None) deleted. It must not block.

        A handler that comes late hears of everything already cached.
        """
        self._handlers.append(on_change)
        for item in self._store.list():
            self._call(on_change, None, item)

    def get(self, namespace: str | None, name: str) -> Object | None:
        """From the cache; never change it."""
        return self._store.get(namespace, name)

    def has(self, namespace: str | None, name: str) -> bool:
        """Whether it is in the cache, at no cost."""
        return self._store.has(namespace, name)

    def list(self) -> Objects:
        return self._store.list()

    def by_index(self, index: str, value: str) -> Objects:
        return self._store.by_index(index, value)

    def names_by_index(self, index: str, value: str) -> tuple[Name, ...]:
        """Namespaces and names only, at no cost."""
        return self._store.names_by_index(index, value)

    def some_names(self, index: str, value: str, most: int) -> tuple[Name, ...]:
        """For a hint: the first so many of them."""
        return self._store.some_names(index, value, most)

    def names_from_last(self, index: str, value: str) -> Iterator[Name]:
        """Of an ordered index, the last one first."""
        return self._store.names_from_last(index, value)

    def orders(self, index: str, value: str) -> tuple[str, ...]:
        """By what an ordered index holds the objects under the value, each once, at no cost."""
        return self._store.orders(index, value)

    def as_cached(self, raw: Object) -> Object:
        """An object that was read from the server, as the cache would keep it."""
        return self._store.stored_form(raw)

    async def settled(self) -> None:
        """Until it is synced, or refused: whoever waits for many must not wait for a namespace that is gone."""
        waiting = [asyncio.ensure_future(event.wait()) for event in (self.synced, self.refused)]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()

    def last_event_age(self) -> float:
        """Seconds since the server was last heard: an event, a bookmark, a list."""
        return time.monotonic() - self._heard_at

    def stuck_for(self) -> float:
        """Seconds since it last did anything, a failed request included, beyond a pause that it meant to make."""
        return max(0.0, time.monotonic() - self._moved_at)

    @property
    def name(self) -> str:
        """For logs and probes: the kind, and the namespace when it is only one."""
        return "/".join(filter(None, (self.namespace, self.kind.plural)))

    @property
    def resource_version(self) -> str | None:
        """Everything up to this version is in the cache; None before a list and when the next step is a list."""
        return self._version

    async def run(self) -> None:
        """Until cancelled. Failures are logged, counted and tried again; none ends it."""
        self._heard()
        while True:
            self._moved_at = time.monotonic()
            try:
                await self._list_and_watch()
            except ApiError as error:
                if error.gone:
                    log.info("%s: version %s is gone, listing again", self.name, self._version)
                    self._version = None
                    if self._backoff.failures == 0:
                        self._backoff.failures = 1
                        continue
                if error.forbidden and self.namespace is not None:
                    self.refused.set()
                await self._pause(error)

    async def _list_and_watch(self) -> None:
        if self._version is None:
            await self._list()
        await self._watch()

    async def _pause(self, error: ApiError) -> None:
        INFORMER_ERRORS.labels(*self._labels, error.reason).inc()
        wait = max(self._backoff.next(), error.retry_after or 0.0)
        self._doubt(error)
        log.warning("%s: %s; again in %.1f s", self.name, error, wait)
        self._moved_at = time.monotonic() + wait
        await asyncio.sleep(wait)

    def _doubt(self, error: ApiError) -> None:
        if error.reason != "Unreachable" and error.status not in (429, 503):
            self._doubts += 1
        if self._doubts >= self._timing.doubts_before_list:
            self._version, self._doubts = None, 0

    async def _list(self) -> None:
        INFORMER_LISTS.labels(*self._labels).inc()
        items, version = await self._pages()
        self._heard()
        for old, new in self._store.replace_all(items):
            self._notify(old, new)
        self._version = version
        self.synced.set()

    async def _pages(self) -> tuple[PackedItems, str]:
        items: PackedItems = []
        continue_ = ""
        limit = self._page_size
        while True:
            try:
                more, metadata = await self._page(limit, continue_)
            except ApiError as error:
                if not (error.gone and continue_):
                    raise
                # The continue token has expired between two pages: one unpaged list, as client-go falls back to.
                items, continue_, limit = [], "", 0
                continue
            items += more
            continue_ = metadata.get("continue") or ""
            if not continue_:
                return items, str(metadata.get("resourceVersion") or "")

    async def _page(self, limit: int, continue_: str) -> tuple[PackedItems, Object]:
        self._moved_at = math.inf  # in the queue: whoever has its turn answers for all
        async with self._paging:
            self._moved_at = time.monotonic()
            page = await self._api.list(self.kind, self.namespace, limit=limit, continue_=continue_, **self._selectors)
            return [self._store.packed_form(raw) for raw in page.get("items") or ()], page.get("metadata") or {}

    async def _watch(self) -> None:
        INFORMER_WATCHES.labels(*self._labels).inc()
        started, events = time.monotonic(), 0
        stream = self._api.watch(
            self.kind,
            self.namespace,
            resource_version=self._version or "",
            timeout_seconds=random.randint(self._timing.shortest_watch, self._timing.longest_watch),
            **self._selectors,
        )
        async with aclosing(cast(AsyncGenerator[Object, None], stream)) as open_stream:
            async for event in open_stream:
                try:
                    events += self._take(event)
                except (KeyError, TypeError) as error:
                    raise ApiError(0, "Unreadable", f"not a watch event: {str(event)[:200]}") from error
        self._heard()
        if events == 0 and time.monotonic() - started < self._timing.premature:
            raise ApiError(0, "ShortWatch", "the server closed the watch at once")
        self._calm()

    def _take(self, event: Object) -> bool:
        """Applies one event; True when it brought the cache forward."""
        self._heard()
        kind, item = event["type"], event["object"]
        if kind == "ERROR":
            raise error_from_status(500, item)
        version = item["metadata"]["resourceVersion"]
        moved = bool(version != self._version)
        if kind != "BOOKMARK":
            old, new = self._store.remove(item) if kind == "DELETED" else self._store.put(item)
            if old is not new:
                self._notify(old, new)
        self._version = version
        if moved:
            self._calm()
        return moved

    def _calm(self) -> None:
        self._backoff.reset()
        self._doubts = 0

    def _heard(self) -> None:
        self._heard_at = self._moved_at = time.monotonic()

    def _notify(self, old: Object | None, new: Object | None) -> None:
        for handler in self._handlers:
            if old and new and old["metadata"].get("uid") != new["metadata"].get("uid"):
                # Deleted and created again under the same name while nobody looked.
                self._call(handler, old, None)
                self._call(handler, None, new)
            else:
                self._call(handler, old, new)

    def _call(self, handler: Handler, old: Object | None, new: Object | None) -> None:
        try:
            handler(old, new)
        except Exception:
            INFORMER_ERRORS.labels(*self._labels, "Handler").inc()
            log.exception("%s: a handler failed", self.name)
