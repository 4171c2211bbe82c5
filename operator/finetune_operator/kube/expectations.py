"""What we have written and not yet seen in our own cache."""

import time
from collections.abc import Callable, Hashable

from finetune_operator.kube.errors import Object
from finetune_operator.kube.informer import Informer

Identity = tuple[str, str, str]
"""Kind, namespace and name of a written object."""


class Expectations:
    """Keeps a reconcile from acting on a cache that is older than its own last write.

    After a write, `expect(key, kind, written)`; `satisfied(key)` is False until the informer has shown that
    version or a newer one, or the object's deletion, or `timeout` seconds have passed (a write that another one
    overtook, an informer that does not select the object). Versions compare as integers, as Kubernetes has
    promised since 1.35 (KEP-5504) and as etcd has always made them.
    """

    def __init__(self, timeout: float = 5.0, now: Callable[[], float] = time.monotonic) -> None:
        self._timeout = timeout
        self._now = now
        self._pending: dict[Hashable, dict[Identity, tuple[int, float]]] = {}
        self._waiting: dict[Identity, set[Hashable]] = {}
        self._informers: dict[str, list[Informer]] = {}

    def watch(self, informer: Informer) -> None:
        """Observes everything that this informer sees; once is enough."""
        kind = informer.kind.kind
        watched = self._informers.setdefault(kind, [])
        if informer in watched:
            return
        watched.append(informer)

        def on_change(old: Object | None, new: Object | None) -> None:
            if new is not None:
                self.observed(kind, new)
            elif old is not None:
                self.observed(kind, old, deleted=True)

        informer.add_handler(on_change)

    def expect(self, key: Hashable, kind: str, written: Object) -> None:
        """`written` is the server's answer to our write; the watch may have been faster than it."""
        identity, version = _identity(kind, written), _version(written)
        if self._cached(identity, version):
            return
        self._pending.setdefault(key, {})[identity] = (version, self._now() + self._timeout)
        self._waiting.setdefault(identity, set()).add(key)

    def observed(self, kind: str, item: Object, *, deleted: bool = False) -> None:
        identity = _identity(kind, item)
        if identity not in self._waiting:
            return
        seen = _version(item)
        for key in list(self._waiting[identity]):
            expected, _ = self._pending[key][identity]
            if deleted or seen >= expected:
                self._drop(key, identity)

    def satisfied(self, key: Hashable) -> bool:
        return self.remaining(key) <= 0

    def remaining(self, key: Hashable) -> float:
        """Seconds until the key may be reconciled in any case; 0 when nothing is awaited."""
        pending = self._pending.get(key)
        if not pending:
            return 0.0
        now = self._now()
        for identity in [identity for identity, (_, deadline) in pending.items() if deadline <= now]:
            self._drop(key, identity)
        return max((deadline - now for _, deadline in pending.values()), default=0.0)

    def forget(self, key: Hashable) -> None:
        """The key's object is gone: nothing of it is awaited any more."""
        for identity in list(self._pending.get(key, {})):
            self._drop(key, identity)

    def _cached(self, identity: Identity, version: int) -> bool:
        kind, namespace, name = identity
        found = (informer.get(namespace, name) for informer in self._informers.get(kind, ()))
        return any(item is not None and _version(item) >= version for item in found)

    def _drop(self, key: Hashable, identity: Identity) -> None:
        del self._pending[key][identity]
        if not self._pending[key]:
            del self._pending[key]
        self._waiting[identity].discard(key)
        if not self._waiting[identity]:
            del self._waiting[identity]


def _identity(kind: str, item: Object) -> Identity:
    metadata = item["metadata"]
    return kind, metadata.get("namespace") or "", metadata["name"]


def _version(item: Object) -> int:
    return int(item["metadata"]["resourceVersion"])
