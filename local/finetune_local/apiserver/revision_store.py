"""Versioned objects and their history: what etcd and the watch cache give a real API server.

Every write takes the next revision of one counter. Objects are never mutated after they are stored; their JSON is
encoded once per version and shared by every reader and watcher.
"""

import asyncio
import bisect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from finetune_local.apiserver.status_error import too_old

Object = dict[str, Any]
HISTORY_LIMIT = 4_096
# (kind, namespace, name, new state or None, revision)
StoreListener = Callable[[tuple[str, str], str, str, "StoredObject | None", int], None]


class StoredObject:
    """One version of an object. `body` must not be changed."""

    __slots__ = ("_json", "body", "revision")

    def __init__(self, body: Object, revision: int, json: bytes | None = None) -> None:
        self.body = body
        self.revision = revision
        self._json = json

    @property
    def json(self) -> bytes:
        if self._json is None:
            self._json = orjson.dumps(self.body)
        return self._json

    def copy(self) -> Object:
        """A copy that the caller may change."""
        copied: Object = orjson.loads(self.json)
        return copied


@dataclass(slots=True)
class Change:
    """One write: `before` is None for a creation; for a deletion `after` is the last state at the deleting revision."""

    revision: int
    type: str  # ADDED, MODIFIED, DELETED
    after: StoredObject
    before: StoredObject | None


@dataclass
class Collection:
    """The objects of one kind, by namespace ("" when cluster-scoped) and name, with a window of past changes."""

    window_start: int
    objects: dict[str, dict[str, StoredObject]] = field(default_factory=dict)
    history: list[Change] = field(default_factory=list)
    dropped: int = 0  # changes that left the window; history[i] is change number dropped + i
    waiters: set[asyncio.Event] = field(default_factory=set)
    closed: bool = False

    def get(self, namespace: str, name: str) -> StoredObject | None:
        return self.objects.get(namespace, {}).get(name)

    def items(self, namespace: str = "") -> Iterator[StoredObject]:
        """In the order of etcd's keys: namespace, then name. An empty namespace lists all."""
        for key in [namespace] if namespace else sorted(self.objects):
            names = self.objects.get(key, {})
            for name in sorted(names):
                yield names[name]

    def count(self) -> int:
        return sum(map(len, self.objects.values()))

    def append(self, change: Change) -> None:
        self.history.append(change)
        if len(self.history) > 2 * HISTORY_LIMIT:
            self.compact(self.history[-HISTORY_LIMIT].revision - 1)
        self.wake()

    def compact(self, revision: int) -> None:
        """Forgets the changes up to `revision`: watches that start before it are refused with 410."""
        cut = bisect.bisect_right(self.history, revision, key=lambda change: change.revision)
        del self.history[:cut]
        self.dropped += cut
        self.window_start = max(self.window_start, revision)

    def position_after(self, revision: int, current: int) -> int:
        """The number of the first change after `revision`. Raises Expired when the window no longer reaches back."""
        if revision < self.window_start:
            raise too_old(revision, current)
        return self.dropped + bisect.bisect_right(self.history, revision, key=lambda change: change.revision)

    def wake(self) -> None:
        for waiter in self.waiters:
            waiter.set()


class RevisionStore:
    """All collections and the one revision counter. Synchronous: every method is one atomic step of the event loop."""

    def __init__(self, revision: int = 1) -> None:
        self.revision = revision
        self.collections: dict[tuple[str, str], Collection] = {}
        self.listeners: list[StoreListener] = []  # called with every write: the journal

    def collection(self, key: tuple[str, str]) -> Collection:
        found = self.collections.get(key)
        if found is None:
            found = self.collections[key] = Collection(window_start=self.revision)
        return found

    def drop_collection(self, key: tuple[str, str]) -> None:
        """Ends the watches of a kind that is no longer served."""
        collection = self.collections.pop(key, None)
        if collection is not None:
            collection.closed = True
            collection.wake()

    def put(self, key: tuple[str, str], namespace: str, name: str, body: Object) -> StoredObject:
        """Stores `body` (owned by the store from now on) under the next revision."""
        collection = self.collection(key)
        before = collection.get(namespace, name)
        stored = self._next(body)
        for listener in self.listeners:
            listener(key, namespace, name, stored, stored.revision)
        collection.objects.setdefault(namespace, {})[name] = stored
        collection.append(Change(stored.revision, "MODIFIED" if before else "ADDED", stored, before))
        return stored

    def remove(self, key: tuple[str, str], namespace: str, name: str, last: Object) -> StoredObject:
        """Removes an object; watchers see `last` with the revision of the removal."""
        collection = self.collection(key)
        before = collection.objects[namespace].pop(name)
        if not collection.objects[namespace]:
            del collection.objects[namespace]
        stored = self._next(last)
        for listener in self.listeners:
            listener(key, namespace, name, None, stored.revision)
        collection.append(Change(stored.revision, "DELETED", stored, before))
        return stored

    def _next(self, body: Object) -> StoredObject:
        self.revision += 1
        body["metadata"]["resourceVersion"] = str(self.revision)
        return StoredObject(body, self.revision)

    def compact(self) -> None:
        for collection in self.collections.values():
            collection.compact(self.revision)
