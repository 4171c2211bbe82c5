"""Workers that bring one object after the other from what is to what should be."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from finetune_operator.kube.errors import ApiError, Object
from finetune_operator.kube.expectations import Expectations
from finetune_operator.kube.informer import Informer
from finetune_operator.kube.metrics import (
    ACTIVE_WORKERS,
    MAX_WORKERS,
    RECONCILE_ERRORS,
    RECONCILE_PANICS,
    RECONCILE_TIME,
    RECONCILES,
)
from finetune_operator.kube.work_queue import QueueShutDown, RateLimit, WorkQueue

log = logging.getLogger(__name__)

Key = tuple[str, str]
"""Namespace (empty for cluster-scoped kinds) and name."""
UNFILLED_SECONDS = 1.0
"""Until a key is looked at again of whose namespace not all caches are filled."""
ToKeys = Callable[[Object], Iterable[Key]]
Concerns = Callable[[Object | None, Object | None], bool]
"""Whether a change, from the old object to the new one, is worth a reconcile."""


@dataclass(frozen=True)
class Result:
    """Reconcile the key again after so many seconds, whatever happens."""

    requeue_after: float | None = None


Reconcile = Callable[[Key], Awaitable[Result | None]]


def always(old: Object | None, new: Object | None) -> bool:
    return True


def own_key(item: Object) -> Iterable[Key]:
    metadata = item["metadata"]
    return ((metadata.get("namespace") or "", metadata["name"]),)


def owner_keys(kind: str) -> ToKeys:
    """Key of the object of this kind that controls the given one."""

    def to_keys(item: Object) -> Iterable[Key]:
        metadata = item["metadata"]
        for owner in metadata.get("ownerReferences") or ():
            if owner.get("controller") and owner["kind"] == kind:
                yield metadata.get("namespace") or "", owner["name"]

    return to_keys


class Controller:
    """A keyed queue, its workers, and the informers that fill it.

    `reconcile(key)` gets no event, only the key: it reads the caches and acts on what it finds. What it raises
    is logged and tried again, later each time. Nothing else may fail: that ends the process.
    """

    def __init__(
        self,
        name: str,
        reconcile: Reconcile,
        *,
        workers: int = 16,
        resync: float = 600.0,
        limit: RateLimit | None = None,
        expectations: Expectations | None = None,
    ) -> None:
        self.name = name
        self.queue: WorkQueue[Key] = WorkQueue(name, limit)
        self.informers: list[Informer] = []
        self._unfilled: list[Informer] = []
        self.gate: Callable[[], None] | None = None
        """Called before each reconcile; raises when this process may not act (any more), which ends it."""
        self.prepare: list[Callable[[], Awaitable[object]]] = []
        """Done once, one after the other, with full caches, before the first reconcile."""
        self._reconcile = reconcile
        self._workers = workers
        self._resync = resync
        self._primary: Informer | None = None
        self._expectations = expectations
        self._active = ACTIVE_WORKERS.labels(name)
        self._time = RECONCILE_TIME.labels(name)
        self._successes = RECONCILES.labels(name, "success")
        self._requeues = RECONCILES.labels(name, "requeue_after")
        MAX_WORKERS.labels(name).set(workers)
        # A counter that appears with its first count has not increased, as Prometheus sees it.
        self._errors, self._panics = RECONCILE_ERRORS.labels(name), RECONCILE_PANICS.labels(name)

    def watch(self, informer: Informer, to_keys: ToKeys = own_key, *, when: Concerns = always) -> None:
        """Enqueues the keys of the old and of the new object at every change that `when` does not leave out.

        The first informer is resynced.
        """
        if self._primary is None and to_keys is own_key:
            self._primary = informer
        self.informers.append(informer)
        self._unfilled.append(informer)
        if self._expectations:
            self._expectations.watch(informer)  # before us: the echo of a write must not be held up by itself

        def enqueue(old: Object | None, new: Object | None) -> None:
            if not when(old, new):
                return
            before = tuple(to_keys(old)) if old is not None else ()
            after = tuple(to_keys(new)) if new is not None else ()
            for key in before if before == after else (*before, *after):
                self._enqueue(key)

        informer.add_handler(enqueue)

    def _enqueue(self, key: Key) -> None:
        """Now, or once the cache shows our own last writes: each of them comes by here."""
        wait = self._expectations.remaining(key) if self._expectations else 0.0
        if wait > 0:
            self.queue.add_after(key, wait)
        else:
            self.queue.add(key)

    async def run(self) -> None:
        """Waits for the caches, prepares, then works until `stop` or cancellation.

        A namespace that may not be read (any more) holds up its own keys alone.
        """
        for informer in self.informers:
            await informer.settled()
        for step in self.prepare:
            await step()
        async with asyncio.TaskGroup() as tasks:
            resync = tasks.create_task(self._resync_forever(), name=f"{self.name}-resync")
            workers = [tasks.create_task(self._work(), name=f"{self.name}-{number}") for number in range(self._workers)]
            await asyncio.gather(*workers)
            resync.cancel()

    def _is_filled(self, namespace: str) -> bool:
        """Whether all caches are that tell of a namespace."""
        self._unfilled = [one for one in self._unfilled if not one.synced.is_set()]
        return not any(one.namespace in (None, namespace) for one in self._unfilled)

    def stop(self) -> None:
        """Workers finish the key that they hold; then `run` returns."""
        self.queue.shut_down()

    async def _resync_forever(self) -> None:
        """Every key again every ten minutes or so: whatever was overlooked heals by itself."""
        while self._resync > 0:
            await asyncio.sleep(self._resync * (1 + random.random() / 10))
            for item in self._primary.list() if self._primary else ():
                for key in own_key(item):
                    self.queue.add(key)

    async def _work(self) -> None:
        while True:
            try:
                key = await self.queue.get()
            except QueueShutDown:
                return
            self._active.inc()
            try:
                await self._process(key)
            finally:
                self._active.dec()
                self.queue.done(key)

    async def _process(self, key: Key) -> None:
        if self.gate:
            self.gate()
        if not self._is_filled(key[0]):
            self.queue.add_after(key, UNFILLED_SECONDS)
            return
        if self._expectations and (wait := self._expectations.remaining(key)) > 0:
            # The cache does not show our own last write yet; its arrival enqueues the key, or else this does.
            self.queue.add_after(key, wait)
            return
        self.queue.drop_delayed(key)  # this reconcile says anew when the next one is due
        started = time.perf_counter()
        try:
            result = await self._reconcile(key)
        except Exception as error:
            if self.gate:
                self.gate()  # lost in the middle: what failed then is of no interest
            self._failed(key, error)
        except asyncio.CancelledError as error:
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            self._failed(key, error)  # something inside was cancelled, not we
        else:
            self._succeeded(key, result)
        self._time.observe(time.perf_counter() - started)

    def _succeeded(self, key: Key, result: Result | None) -> None:
        self.queue.forget(key)
        if result is None or result.requeue_after is None:
            self._successes.inc()
            return
        self._requeues.inc()
        self.queue.add_after(key, result.requeue_after)

    def _failed(self, key: Key, error: BaseException) -> None:
        if isinstance(error, ApiError) and error.conflict:
            RECONCILES.labels(self.name, "requeue").inc()
            log.debug("%s %s/%s: %s", self.name, *key, error)
        else:
            RECONCILES.labels(self.name, "error").inc()
            self._errors.inc()
            self._log_failure(key, error)
        if isinstance(error, ApiError) and error.retry_after:
            self.queue.add_after(key, error.retry_after)
        else:
            self.queue.add_rate_limited(key)

    def _log_failure(self, key: Key, error: BaseException) -> None:
        if isinstance(error, ApiError):
            log.warning("%s %s/%s: %s", self.name, *key, error)
            return
        self._panics.inc()
        log.error("%s %s/%s: reconcile failed", self.name, *key, exc_info=error)
