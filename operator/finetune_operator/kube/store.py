"""The objects of one kind in memory, with indices."""

from collections.abc import Callable, Iterable

from finetune_operator.kube.errors import Object, Objects
from finetune_operator.kube.resources import Kind

Transform = Callable[[Object], Object]
Indexer = Callable[[Object], list[str]]
Name = tuple[str, str]
Change = tuple[Object | None, Object | None]
Changes = list[Change]


def name_of(item: Object) -> Name:
    metadata = item["metadata"]
    return metadata.get("namespace") or "", metadata["name"]


class Store:
    """Keyed by namespace and name. Stored objects are never changed, only replaced."""

    def __init__(self, kind: Kind, transform: Transform | None, indexers: dict[str, Indexer]) -> None:
        self._kind = kind
        self._transform = transform
        self._indexers = indexers
        self._items: dict[Name, Object] = {}
        self._indices: dict[str, dict[str, dict[Name, Object]]] = {name: {} for name in indexers}

    def __len__(self) -> int:
        return len(self._items)

    def get(self, namespace: str | None, name: str) -> Object | None:
        return self._items.get((namespace or "", name))

    def list(self) -> Objects:
        return list(self._items.values())

    def by_index(self, index: str, value: str) -> Objects:
        return list(self._indices[index].get(value, {}).values())

    def put(self, raw: Object) -> Change:
        """Old and new; the same object twice when the version is the one already stored."""
        item = self._stored_form(raw)
        name = name_of(item)
        old = self._items.get(name)
        if old is not None and _same_version(old, item):
            return old, old
        self._unindex(name, old)
        self._items[name] = item
        for index, indexer in self._indexers.items():
            for value in indexer(item):
                self._indices[index].setdefault(value, {})[name] = item
        return old, item

    def remove(self, raw: Object) -> Change:
        """The last state (the server's, where the event carries it) and None; twice None when it is not here."""
        name = name_of(raw)
        old = self._items.pop(name, None)
        self._unindex(name, old)
        return (None if old is None else self._stored_form(raw)), None

    def replace_all(self, raws: Iterable[Object]) -> Changes:
        """The changes between what was stored and a full list: also the deletions that nobody told us of."""
        changes: Changes = []
        names: set[Name] = set()
        for raw in raws:
            names.add(name_of(raw))
            old, new = self.put(raw)
            if old is not new:
                changes.append((old, new))
        vanished = [item for name, item in self._items.items() if name not in names]
        for item in vanished:
            name = name_of(item)
            del self._items[name]
            self._unindex(name, item)
        return [(item, None) for item in vanished] + changes

    def _unindex(self, name: Name, item: Object | None) -> None:
        if item is None:
            return
        for index, indexer in self._indexers.items():
            for value in indexer(item):
                named = self._indices[index].get(value, {})
                named.pop(name, None)
                if not named:
                    self._indices[index].pop(value, None)

    def _stored_form(self, raw: Object) -> Object:
        """Without managedFields (a fifth of a Pod); with apiVersion and kind, which the items of a list lack."""
        metadata = {key: value for key, value in raw["metadata"].items() if key != "managedFields"}
        item = {"apiVersion": self._kind.api_version, "kind": self._kind.kind, **raw, "metadata": metadata}
        return self._transform(item) if self._transform else item


def _same_version(old: Object, new: Object) -> bool:
    before, after = old["metadata"], new["metadata"]
    return bool(before.get("resourceVersion") == after.get("resourceVersion") and before.get("uid") == after.get("uid"))
