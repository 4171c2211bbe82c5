"""Garbage collection by ownerReferences: Background, Foreground and Orphan, for every served kind."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.controller import Controller, Key, Result
from finetune_operator.kube.errors import ApiError
from finetune_operator.kube.informer import Informer
from finetune_operator.kube.resources import Kind

log = logging.getLogger(__name__)

Object = dict[str, Any]

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"


@dataclass(frozen=True)
class Node:
    """What the collector keeps of an object."""

    kind: Kind
    namespace: str
    name: str
    owners: tuple[Object, ...]
    deleting: bool
    finalizers: tuple[str, ...]


class GarbageCollector:
    """One metadata-only informer for each kind; the queue's keys are ("", uid)."""

    def __init__(self, api: KubeApi, kinds: Callable[[], Iterable[Kind]]) -> None:
        self._api = api
        self._kinds = kinds
        self._informers: dict[Kind, tuple[Informer, asyncio.Task[None]]] = {}
        self._nodes: dict[str, Node] = {}
        self._dependents: dict[str, set[str]] = defaultdict(set)
        self._by_kind: dict[tuple[str, str], Kind] = {}
        self.changed = asyncio.Event()
        """Set it when the served kinds change: a CRD came or went."""
        self.controller = Controller("garbage-collector", self.reconcile, workers=4, resync=0)

    async def run(self) -> None:
        self.changed.set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.controller.run())
            while True:
                await self.changed.wait()
                self.changed.clear()
                self._follow_kinds(tasks)

    def _follow_kinds(self, tasks: asyncio.TaskGroup) -> None:
        served = set(self._kinds())
        for kind in served - set(self._informers):
            self._by_kind[kind.api_version, kind.kind] = kind
            informer = Informer(self._api, kind, transform=_metadata_only)
            informer.add_handler(lambda old, new, kind=kind: self._on_change(kind, old, new))  # type: ignore[misc]
            self._informers[kind] = informer, tasks.create_task(informer.run())
        for kind in set(self._informers) - served:
            informer, task = self._informers.pop(kind)
            task.cancel()
            for item in informer.list():
                self._on_change(kind, item, None)

    def _on_change(self, kind: Kind, old: Object | None, new: Object | None) -> None:
        if old is not None:
            for owner in old["metadata"].get("ownerReferences") or ():
                self._dependents[owner["uid"]].discard(old["metadata"]["uid"])
        if new is None:
            self._removed(old or {})
            return
        metadata = new["metadata"]
        uid = metadata["uid"]
        owners = tuple(metadata.get("ownerReferences") or ())
        node = Node(
            kind,
            metadata.get("namespace") or "",
            metadata["name"],
            owners,
            bool(metadata.get("deletionTimestamp")),
            tuple(metadata.get("finalizers") or ()),
        )
        self._nodes[uid] = node
        for owner in owners:
            self._dependents[owner["uid"]].add(uid)
        if node.deleting or any(owner["uid"] not in self._nodes for owner in owners):
            self._enqueue(uid)

    def _removed(self, old: Object) -> None:
        uid = old["metadata"]["uid"]
        self._nodes.pop(uid, None)
        for dependent in self._dependents.pop(uid, set()):
            self._enqueue(dependent)
        for owner in old["metadata"].get("ownerReferences") or ():
            if owner["uid"] in self._nodes:
                self._enqueue(owner["uid"])

    def _enqueue(self, uid: str) -> None:
        self.controller.queue.add(("", uid))

    async def reconcile(self, key: Key) -> Result | None:
        uid = key[1]
        node = self._nodes.get(uid)
        if node is None:
            return None
        if node.deleting and FOREGROUND in node.finalizers:
            await self._delete_dependents(uid, node)
        elif node.deleting and ORPHAN in node.finalizers:
            await self._orphan_dependents(uid, node)
        elif node.owners and not node.deleting:
            await self._attend(uid, node)
        return None

    async def _delete_dependents(self, uid: str, node: Node) -> None:
        blocking = False
        for dependent in list(self._dependents.get(uid, ())):
            child = self._nodes.get(dependent)
            if child is None:
                continue
            blocking |= any(one["uid"] == uid and one.get("blockOwnerDeletion") for one in child.owners)
            if not child.deleting:
                self._enqueue(dependent)
        if not blocking:
            await self._remove_finalizer(uid, node, FOREGROUND)

    async def _orphan_dependents(self, uid: str, node: Node) -> None:
        for dependent in list(self._dependents.get(uid, ())):
            if child := self._nodes.get(dependent):
                await self._drop_owners(dependent, child, {uid})
        await self._remove_finalizer(uid, node, ORPHAN)

    async def _attend(self, uid: str, node: Node) -> None:
        """Deletes the object when none of its owners is there to stay."""
        absent, solid, waiting = set(), False, False
        for owner in node.owners:
            found = self._nodes.get(owner["uid"])
            if found is None and not await self._exists(node, owner):
                absent.add(owner["uid"])
            elif found is not None and found.deleting and FOREGROUND in found.finalizers:
                waiting = True
            else:
                solid = True
        if solid:
            if absent:
                await self._drop_owners(uid, node, absent)
            return
        policy = "Foreground" if waiting and self._dependents.get(uid) else "Background"
        await self._try(self._api.delete(node.kind, node.name, node.namespace or None, propagation=policy, uid=uid))

    async def _exists(self, node: Node, owner: Object) -> bool:
        """Asks the server: the cache of another kind may be behind."""
        kind = self._by_kind.get((owner["apiVersion"], owner["kind"]))
        if kind is None:
            group = owner["apiVersion"].rpartition("/")[0]
            same = [one for one in self._by_kind.values() if (one.group, one.kind) == (group, owner["kind"])]
            if not same:
                return False
            kind = same[0]
        try:
            found = await self._api.get(kind, owner["name"], node.namespace if kind.namespaced else None)
        except ApiError as error:
            if error.not_found:
                return False
            raise
        return bool(found["metadata"]["uid"] == owner["uid"])

    async def _drop_owners(self, uid: str, node: Node, gone: set[str]) -> None:
        kept = [owner for owner in node.owners if owner["uid"] not in gone]
        patch = {"metadata": {"uid": uid, "ownerReferences": kept or None}}
        await self._try(self._api.patch(node.kind, node.name, patch, node.namespace or None))

    async def _remove_finalizer(self, uid: str, node: Node, finalizer: str) -> None:
        kept = [one for one in node.finalizers if one != finalizer]
        patch = {"metadata": {"uid": uid, "finalizers": kept or None}}
        await self._try(self._api.patch(node.kind, node.name, patch, node.namespace or None))

    async def _try(self, request: Any) -> None:
        try:
            await request
        except ApiError as error:
            if not (error.not_found or error.conflict):
                raise


def _metadata_only(item: Object) -> Object:
    metadata = item["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "ownerReferences", "finalizers", "deletionTimestamp")
    return {"metadata": {name: metadata[name] for name in kept if name in metadata}}
