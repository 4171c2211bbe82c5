"""The objects of one kind in memory, with indices."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from finetune_operator.kube.errors import Object, Objects
from finetune_operator.kube.index import Index, Indexer, Name, Ordered, OrderedIndex, PlainIndex
from finetune_operator.kube.packing import Packing
from finetune_operator.kube.resources import Kind

Transform = Callable[[Object], Object]
Change = tuple[Object | None, Object | None]
Packed = tuple[Name, Any]


def name_of(item: Object) -> Name:
    metadata = item["metadata"]
    return sys.intern(metadata.get("namespace") or ""), metadata["name"]


class Store:
    """Keyed by namespace and name. Stored objects are never changed, only replaced.

    `packed` keeps each object compressed and decodes it when it is asked for: of thousands of objects only a few are
    looked at in any second.
    """

    def __init__(
        self, kind: Kind, transform: Transform | None, indexers: Mapping[str, Indexer], *, packed: bool = False
    ) -> None:
        self._kind = kind
        self._transform = transform
        packing = Packing() if packed else None
        self._pack: Callable[[Object], Any] = packing.pack if packing else _as_it_is
        self._unpack: Callable[[Any], Object] = packing.unpack if packing else _as_it_is
        self._items: dict[Name, Any] = {}
        self._ordered = {name: OrderedIndex(one) for name, one in indexers.items() if isinstance(one, Ordered)}
        plain = {name: PlainIndex(one) for name, one in indexers.items() if not isinstance(one, Ordered)}
        self._indices: dict[str, Index] = {**plain, **self._ordered}

    def __len__(self) -> int:
        return len(self._items)

    def get(self, namespace: str | None, name: str) -> Object | None:
        return self._get((namespace or "", name))

    def has(self, namespace: str | None, name: str) -> bool:
        """Nothing is decoded."""
        return (namespace or "", name) in self._items

    def list(self) -> Objects:
        return [self._unpack(item) for item in self._items.values()]

    def by_index(self, index: str, value: str) -> Objects:
        return [self._unpack(self._items[name]) for name in self._indices[index].names(value)]

    def names_by_index(self, index: str, value: str) -> tuple[Name, ...]:
        """For those whom the names are enough: nothing is decoded."""
        return tuple(self._indices[index].names(value))

    def some_names(self, index: str, value: str, most: int) -> tuple[Name, ...]:
        """The first so many."""
        return tuple(islice(self._indices[index].names(value), most))

    def names_from_last(self, index: str, value: str) -> Iterator[Name]:
        """Of an ordered index, the last one first."""
        return self._ordered[index].from_last(value)

    def orders(self, index: str, value: str) -> tuple[str, ...]:
        """The different texts by which an ordered index holds what is under the value; nothing is decoded."""
        return self._ordered[index].orders(value)

    def put(self, raw: Object) -> Change:
        """Old and new; the same object twice when the version is the one already stored."""
        item = self.stored_form(raw)
        return self._put(name_of(item), item, self._pack(item))

    def _put(self, name: Name, item: Object, packed: Any) -> Change:
        old = self._get(name)
        if old is not None and _same_version(old, item):
            return old, old
        self._items[name] = packed
        self._index(name, old, item)
        return old, item

    def _get(self, name: Name) -> Object | None:
        item = self._items.get(name)
        return None if item is None else self._unpack(item)

    def remove(self, raw: Object) -> Change:
        """The last state (the server's, where the event carries it) and None; twice None when it is not here."""
        name = name_of(raw)
        old = self._get(name)
        if old is None:
            return None, None
        del self._items[name]
        self._index(name, old, None)
        return self.stored_form(raw), None

    def packed_form(self, raw: Object) -> Packed:
        """Its name, and what would be stored of it: what a list keeps of one page until the last one is there."""
        item = self.stored_form(raw)
        return name_of(item), self._pack(item)

    def replace_all(self, items: Sequence[Packed]) -> Iterator[Change]:
        """The changes between what was stored and a full list: also the deletions that nobody told us of.

        One at a time, so that not all objects are unpacked at once: the store is up to date when all were taken.
        """
        names = {name for name, _ in items}
        for name in [name for name in self._items if name not in names]:
            item = self._unpack(self._items.pop(name))
            self._index(name, item, None)
            yield item, None
        for name, packed in items:
            old, new = self._put(name, self._unpack(packed), packed)
            if old is not new:
                yield old, new

    def _index(self, name: Name, old: Object | None, new: Object | None) -> None:
        for index in self._indices.values():
            index.update(name, old, new)

    def stored_form(self, raw: Object) -> Object:
        """Without managedFields (a fifth of a Pod); with apiVersion and kind, which the items of a list lack."""
        metadata = {key: value for key, value in raw["metadata"].items() if key != "managedFields"}
        item = {"apiVersion": self._kind.api_version, "kind": self._kind.kind, **raw, "metadata": metadata}
        return self._transform(item) if self._transform else item


def _as_it_is(item: Any) -> Any:
    return item


def _same_version(old: Object, new: Object) -> bool:
    before, after = old["metadata"], new["metadata"]
    return bool(before.get("resourceVersion") == after.get("resourceVersion") and before.get("uid") == after.get("uid"))
