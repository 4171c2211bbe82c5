"""The kinds that are served right now, by URL."""

import re
from collections.abc import Callable, Iterator

from finetune_local.apiserver.resource_type import ResourceType


class TypeRegistry:
    """Built-in kinds for ever, custom resources while their CRD exists."""

    def __init__(self) -> None:
        self._types: dict[tuple[str, str, str], ResourceType] = {}
        self.generation = 0  # bumped by every change: caches of discovery and OpenAPI documents compare it
        self.on_change: list[Callable[[], None]] = []

    def add(self, resource: ResourceType) -> None:
        self._types[resource.group, resource.version, resource.plural] = resource
        self._changed()

    def remove(self, group: str, plural: str, version: str | None = None) -> None:
        for key in [key for key in self._types if key[0] == group and key[2] == plural]:
            if version in (None, key[1]):
                del self._types[key]
        self._changed()

    def _changed(self) -> None:
        self.generation += 1
        for listener in self.on_change:
            listener()

    def find(self, group: str, version: str, plural: str) -> ResourceType | None:
        return self._types.get((group, version, plural))

    def __iter__(self) -> Iterator[ResourceType]:
        return iter(list(self._types.values()))

    def groups(self) -> dict[str, list[str]]:
        """Versions of each group, the preferred one first; the core group is ""."""
        found: dict[str, list[str]] = {}
        for group, version, _ in self._types:
            versions = found.setdefault(group, [])
            if version not in versions:
                versions.append(version)
        return {group: sorted(versions, key=version_priority) for group, versions in found.items()}

    def in_version(self, group: str, version: str) -> list[ResourceType]:
        return [one for one in self._types.values() if one.group == group and one.version == version]


def version_priority(version: str) -> tuple[int, int, int, str]:
    """v2, v1, v1beta2, v1beta1, v1alpha1, then anything else by name (kube-aware version order)."""
    match = re.fullmatch(r"v(\d+)(?:(alpha|beta)(\d+))?", version)
    if not match:
        return (3, 0, 0, version)
    major, stage, minor = match.groups()
    rank = {None: 0, "beta": 1, "alpha": 2}[stage]
    return (rank, -int(major), -int(minor or 0), version)
