"""Keeps the store in a folder: a journal of JSON lines, rewritten in one step when it has grown.

A write reaches the disk within FLUSH_SECONDS. After a crash the revision jumps ahead of everything that a client can
have seen, so that a resourceVersion never comes back with another meaning.
"""

import asyncio
import contextlib
import logging
import os
import pathlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import orjson

from finetune_local.apiserver.revision_store import RevisionStore, StoredObject

log = logging.getLogger(__name__)
FLUSH_SECONDS = 0.1
CRASH_GAP = 1_000_000
MIN_COMPACTION_LINES = 20_000
FILE = "objects.jsonl"
Key = tuple[str, str]


class CorruptStateError(Exception):
    """A state file that cannot be read; names the file and the line."""


class Journal:
    """Records the writes of one store. One process may use a folder at a time."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._path = folder / FILE
        self._lines: list[bytes] = []
        self._written = 0
        self._broken = False
        self._file: BinaryIO | None = None
        self._store: RevisionStore | None = None
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()

    def load(self) -> RevisionStore:
        """The saved store, or an empty one. Raises CorruptStateError."""
        store = RevisionStore()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._path.exists():
            objects, revision, closed = replay(self._path)
            store.revision = revision if closed else revision + CRASH_GAP
            for (key, namespace, name), body in objects.items():
                stored = StoredObject(body, int(body["metadata"]["resourceVersion"]))
                store.collection(key).objects.setdefault(namespace, {})[name] = stored
        self._store = store
        return store

    def start(self) -> None:
        """Rewrites the file compactly and records every write from now on."""
        assert self._store is not None, "load() comes first"
        self._rewrite()
        self._store.listeners.append(self._record)
        self._task = asyncio.get_running_loop().create_task(self._run(), name="apiserver-journal")

    def _record(self, key: Key, namespace: str, name: str, stored: StoredObject | None, revision: int) -> None:
        self._lines.append(_line(key, namespace, name, stored, revision))
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(FLUSH_SECONDS)
            self._wake.clear()
            self._flush()

    def _flush(self) -> None:
        lines, self._lines = self._lines, []
        try:
            self._append(lines)
        except OSError:
            # The file may end inside a line now: the next flush writes everything anew.
            log.exception("cannot write %s; objects live in memory only until it can be written", self._path)
            self._broken = True

    def _append(self, lines: list[bytes]) -> None:
        assert self._file is not None
        assert self._store is not None
        if not self._broken:
            self._file.write(b"".join(lines))
            self._file.flush()
            self._written += len(lines)
        objects = sum(collection.count() for collection in self._store.collections.values())
        if self._broken or self._written > max(MIN_COMPACTION_LINES, 4 * objects):
            self._rewrite()

    def _rewrite(self) -> None:
        """A new file with one line an object takes the place of the old one, whole or not at all."""
        assert self._store is not None
        partial = self._path.with_suffix(".partial")
        file = partial.open("wb")
        file.write(orjson.dumps({"revision": self._store.revision}) + b"\n")
        for line in _snapshot(self._store):
            file.write(line)
        file.flush()
        os.fsync(file.fileno())
        partial.replace(self._path)
        if self._file is not None:
            self._file.close()
        self._file, self._written, self._broken = file, 0, False

    async def stop(self) -> None:
        """Writes what is left and marks the end as clean."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._file is not None and self._store is not None:
            self._flush()
            self._file.write(orjson.dumps({"revision": self._store.revision, "closed": True}) + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None


def _line(key: Key, namespace: str, name: str, stored: StoredObject | None, revision: int) -> bytes:
    body = orjson.Fragment(stored.json) if stored else None
    entry = {"revision": revision, "key": key, "namespace": namespace, "name": name, "object": body}
    return orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)


def _snapshot(store: RevisionStore) -> Iterator[bytes]:
    for key, collection in store.collections.items():
        for namespace, names in collection.objects.items():
            for name, stored in names.items():
                yield _line(key, namespace, name, stored, stored.revision)


def replay(path: pathlib.Path) -> tuple[dict[tuple[Key, str, str], Any], int, bool]:
    """Objects, highest revision, and whether the file was closed. A torn last line is what a crash leaves: ignored."""
    objects: dict[tuple[Key, str, str], Any] = {}
    revision, closed = 1, False
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            entry = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            if number == len(lines):
                closed = False
                break
            raise CorruptStateError(f"{path}, line {number}: {error}; move the file away to start empty") from error
        revision = max(revision, entry["revision"])
        closed = entry.get("closed", False)
        if "key" in entry:
            _apply(objects, entry)
    return objects, revision, closed


def _apply(objects: dict[tuple[Key, str, str], Any], entry: dict[str, Any]) -> None:
    group, plural = entry["key"]
    address = ((group, plural), entry["namespace"], entry["name"])
    if entry["object"] is None:
        objects.pop(address, None)
    else:
        objects[address] = entry["object"]
