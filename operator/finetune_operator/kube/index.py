"""By what objects in memory are found: names only, so that nothing is decoded."""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from finetune_operator.kube.errors import Object

Name = tuple[str, str]
"""Namespace and name."""
Values = Callable[[Object], list[str]]
"""What an object is found under."""


@dataclass(frozen=True)
class Ordered:
    """An index that holds the names under each value by the order of a text of theirs, such as a time."""

    values: Values
    by: Callable[[Object], str]


Indexer = Values | Ordered


class Index(Protocol):
    """The names under each value."""

    def update(self, name: Name, old: Object | None, new: Object | None) -> None: ...

    def names(self, value: str) -> Iterator[Name]: ...


class PlainIndex:
    """In the order in which they came."""

    def __init__(self, values: Values) -> None:
        self._values = values
        self._names: dict[str, dict[Name, None]] = {}

    def update(self, name: Name, old: Object | None, new: Object | None) -> None:
        before = self._values(old) if old is not None else []
        after = self._values(new) if new is not None else []
        if before == after:
            return
        for value in before:
            self._names[value].pop(name, None)
            if not self._names[value]:
                del self._names[value]
        for value in after:
            self._names.setdefault(value, {})[name] = None

    def names(self, value: str) -> Iterator[Name]:
        return iter(self._names.get(value, ()))


class OrderedIndex:
    """From the first to the last; those of equal order by their names."""

    def __init__(self, ordered: Ordered) -> None:
        self._ordered = ordered
        self._entries: dict[str, list[tuple[str, Name]]] = {}

    def update(self, name: Name, old: Object | None, new: Object | None) -> None:
        before, after = self._of(name, old), self._of(name, new)
        if before == after:
            return
        for value, entry in before.items():
            entries = self._entries[value]
            del entries[bisect_left(entries, entry)]
            if not entries:
                del self._entries[value]
        for value, entry in after.items():
            insort(self._entries.setdefault(value, []), entry)

    def _of(self, name: Name, item: Object | None) -> dict[str, tuple[str, Name]]:
        if item is None:
            return {}
        entry = self._ordered.by(item), name
        return dict.fromkeys(self._ordered.values(item), entry)

    def names(self, value: str) -> Iterator[Name]:
        return (name for _, name in self._entries.get(value, ()))

    def from_last(self, value: str) -> Iterator[Name]:
        return (name for _, name in reversed(self._entries.get(value, ())))

    def orders(self, value: str) -> tuple[str, ...]:
        """The different texts that they are ordered by."""
        return tuple(order for order, _ in groupby(self._entries.get(value, ()), key=lambda entry: entry[0]))
