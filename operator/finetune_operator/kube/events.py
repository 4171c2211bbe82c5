"""Events for people, written beside the work: they never block, delay or fail a reconcile."""

import asyncio
import logging
import secrets
import socket
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from finetune_operator.kube.backoff import Backoff
from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.errors import ApiError, Object
from finetune_operator.kube.metrics import EVENTS_DROPPED, EVENTS_WRITTEN
from finetune_operator.kube.resources import EVENTS
from finetune_operator.kube.timestamps import rfc3339_micro, utc_now
from finetune_operator.kube.work_queue import TokenBucket

log = logging.getLogger(__name__)

EventType = Literal["Normal", "Warning"]
SeriesKey = tuple[str, ...]
V = TypeVar("V")

NOTE_LIMIT = 1024
"""Bytes; the API server refuses longer notes."""


@dataclass(frozen=True)
class EventLimits:
    """client-go's numbers: a series ends after six quiet minutes; 25 events an object, then one per five minutes.

    There is no budget for all objects together: a thousand jobs that start at once have their events written too,
    only later. What waits is bounded, for the memory's sake.
    """

    normal: int = 8_000
    warnings: int = 8_000
    """So many of each type may wait; Normal events take no place from Warnings."""
    writers: int = 4
    """Requests at a time; the events of one object are written one after the other."""
    series_seconds: float = 360.0
    burst: int = 25
    per_second: float = 1 / 300
    similar: int = 10
    """So many different notes for one object and reason, then they are combined."""
    remembered: int = 4096
    tries: int = 5
    first_pause: float = 0.5
    """Before a server that was away, or in trouble, is asked again; doubled each time."""


@dataclass
class _Series:
    name: str
    namespace: str
    seen_at: float
    count: int = 1


@dataclass(slots=True)
class _Record:
    regarding: Object
    type: EventType
    reason: str
    note: str
    action: str
    time: str = field(default_factory=lambda: rfc3339_micro(utc_now()))
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    """Of the event's name: a request that is sent again makes no second event."""


class EventRecorder:
    """events.k8s.io/v1. The same event again within minutes raises `series.count` of the first one."""

    def __init__(
        self,
        api: KubeApi,
        component: str,
        *,
        instance: str | None = None,
        limits: EventLimits | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._component = component
        self._instance = (instance or f"{component}-{socket.gethostname()}")[:128]
        self._limits = limits or EventLimits()
        self._now = now
        self._queues: list[asyncio.Queue[_Record]] = [asyncio.Queue() for _ in range(self._limits.writers)]
        self._waiting: Counter[EventType] = Counter()
        self._in_hand: dict[int, _Record] = {}
        """What each writer is about."""
        self._series: OrderedDict[SeriesKey, _Series] = OrderedDict()
        self._buckets: OrderedDict[SeriesKey, TokenBucket] = OrderedDict()
        self._notes: OrderedDict[SeriesKey, set[str]] = OrderedDict()

    @property
    def waiting(self) -> int:
        """Events that are queued, not counting the ones being written."""
        return self._waiting.total()

    def record(self, regarding: Object, type: EventType, reason: str, note: str, action: str = "") -> None:
        """Queues an event about this object (it needs kind, name and uid). Never blocks; drops when flooded."""
        record = _Record(_reference(regarding), type, reason, note, action or reason)
        if self._waiting[type] >= (self._limits.normal if type == "Normal" else self._limits.warnings):
            _drop(record, "queue-full")
            return
        self._waiting[type] += 1
        self._queues[hash(_object_key(record)) % len(self._queues)].put_nowait(record)

    async def run(self) -> None:
        """Writes the queued events, until cancelled."""
        async with asyncio.TaskGroup() as writers:
            for number, queue in enumerate(self._queues):
                writers.create_task(self._write_all(number, queue))

    async def _write_all(self, number: int, queue: asyncio.Queue[_Record]) -> None:
        while True:
            record = await queue.get()
            self._waiting[record.type] -= 1
            self._in_hand[number] = record
            try:
                await self._write(record)
            finally:
                self._in_hand.pop(number, None)
                queue.task_done()

    async def drain(self, seconds: float = 10.0) -> None:
        """Waits until everything queued is written, for so long at most; `run` must be running.

        What a slow server has not taken by then goes to the log, and nowhere else.
        """
        try:
            async with asyncio.timeout(seconds):
                for queue in self._queues:
                    await queue.join()
        except TimeoutError:
            self._log_unwritten()

    def _log_unwritten(self) -> None:
        for record in self._in_hand.values():  # it may have been
            _drop(record, "shutdown")
        for queue in self._queues:
            while not queue.empty():
                record = queue.get_nowait()
                self._waiting[record.type] -= 1
                queue.task_done()
                _drop(record, "shutdown")

    async def _write(self, record: _Record) -> None:
        """Again while the server is away or in trouble; what it refuses is dropped."""
        if not self._allowed(record):
            EVENTS_DROPPED.labels("rate-limit", record.type).inc()
            return
        key = self._key(record)
        backoff = Backoff(self._limits.first_pause)
        while True:
            try:
                await self._send(key, record)
                return
            except ApiError as error:
                if not _passing(error) or backoff.failures + 1 >= self._limits.tries:
                    _drop(record, "api-error", str(error))
                    return
                await asyncio.sleep(max(backoff.next(), error.retry_after or 0.0))

    async def _send(self, key: SeriesKey, record: _Record) -> None:
        series = self._series.get(key)
        if series is None or self._now() - series.seen_at > self._limits.series_seconds:
            await self._create(key, record)
            return
        try:
            await self._continue(series, record)
        except ApiError as error:
            if not error.not_found:  # an event lives for an hour
                raise
            await self._create(key, record)

    def _allowed(self, record: _Record) -> bool:
        bucket = _remember(
            self._buckets,
            _object_key(record),
            lambda: TokenBucket(self._limits.per_second, self._limits.burst),
            self._limits.remembered,
        )
        return bucket.take(self._now())

    def _key(self, record: _Record) -> SeriesKey:
        about = (*_object_key(record), record.type, record.reason, record.action)
        notes: set[str] = _remember(self._notes, about, set, self._limits.remembered)
        if record.note not in notes and len(notes) >= self._limits.similar:
            record.note = f"(combined from similar events): {record.note}"
            return about
        notes.add(record.note)
        return (*about, record.note)

    async def _create(self, key: SeriesKey, record: _Record) -> None:
        namespace = record.regarding.get("namespace") or "default"
        name = f"{record.regarding['name'][:230]}.{record.token}"
        body = {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": name, "namespace": namespace},
            "eventTime": record.time,
            "type": record.type,
            "reason": record.reason[:128],
            "action": record.action[:128],
            "note": _shortened(record.note),
            "regarding": record.regarding,
            "reportingController": self._component,
            "reportingInstance": self._instance,
        }
        try:
            await self._api.create(EVENTS, body, namespace)
        except ApiError as error:
            if not error.already_exists:  # the answer was lost
                raise
        EVENTS_WRITTEN.labels(record.type).inc()
        self._series[key] = _Series(name, namespace, self._now())
        self._series.move_to_end(key)
        while len(self._series) > self._limits.remembered:
            self._series.popitem(last=False)

    async def _continue(self, series: _Series, record: _Record) -> None:
        patch = {"series": {"count": series.count + 1, "lastObservedTime": record.time}}
        await self._api.patch(EVENTS, series.name, patch, series.namespace)
        series.seen_at = self._now()
        series.count += 1
        EVENTS_WRITTEN.labels(record.type).inc()


def _drop(record: _Record, why: str, error: str = "") -> None:
    """Counted; what a person should have seen goes to the log, and at the end of the process everything does."""
    EVENTS_DROPPED.labels(why, record.type).inc()
    about = record.regarding
    where = f"{about['kind']} {about.get('namespace', '')}/{about['name']}"
    level = logging.WARNING if record.type == "Warning" or why == "shutdown" else logging.DEBUG
    words = (why, record.type, record.reason, where, record.note, f" ({error})" if error else "")
    log.log(level, "event not written (%s): %s %s %s: %s%s", *words)


def _passing(error: ApiError) -> bool:
    """Whether the same request may succeed soon."""
    return error.unreachable or error.too_many_requests or error.status >= 500


def _remember(table: "OrderedDict[SeriesKey, V]", key: SeriesKey, make: Callable[[], V], limit: int) -> V:
    """The table's value, made when missing; the longest unused one is forgotten."""
    if key not in table:
        table[key] = make()
    table.move_to_end(key)
    while len(table) > limit:
        table.popitem(last=False)
    return table[key]


def _object_key(record: _Record) -> SeriesKey:
    about = record.regarding
    return about["kind"], about.get("namespace") or "", about["name"], about.get("uid") or ""


def _reference(item: Object) -> Object:
    metadata = item["metadata"]
    reference = {
        "apiVersion": item["apiVersion"],
        "kind": item["kind"],
        "name": metadata["name"],
        "namespace": metadata.get("namespace"),
        "uid": metadata.get("uid"),
        "resourceVersion": metadata.get("resourceVersion"),
    }
    return {name: value for name, value in reference.items() if value}


def _shortened(note: str) -> str:
    raw = note.encode()
    if len(raw) <= NOTE_LIMIT:
        return note
    return raw[: NOTE_LIMIT - 3].decode(errors="ignore") + "…"
