"""Events for people, written beside the work: they never block, delay or fail a reconcile."""

import asyncio
import logging
import secrets
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

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

    queue: int = 10_000
    for_warnings: int = 2_000
    """Places of the queue that Normal events leave free."""
    writers: int = 4
    """Requests at a time; the events of one object are written one after the other."""
    series_seconds: float = 360.0
    burst: int = 25
    per_second: float = 1 / 300
    similar: int = 10
    """So many different notes for one object and reason, then they are combined."""
    remembered: int = 4096


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
        self._series: OrderedDict[SeriesKey, _Series] = OrderedDict()
        self._buckets: OrderedDict[SeriesKey, TokenBucket] = OrderedDict()
        self._notes: OrderedDict[SeriesKey, set[str]] = OrderedDict()

    @property
    def waiting(self) -> int:
        """Events that are queued, not counting the ones being written."""
        return sum(queue.qsize() for queue in self._queues)

    def record(self, regarding: Object, type: EventType, reason: str, note: str, action: str = "") -> None:
        """Queues an event about this object (it needs kind, name and uid). Never blocks; drops when flooded."""
        room = self._limits.queue - (self._limits.for_warnings if type == "Normal" else 0)
        if self.waiting >= room:
            EVENTS_DROPPED.labels("queue-full").inc()
            return
        record = _Record(_reference(regarding), type, reason, note, action or reason)
        self._queues[hash(_object_key(record)) % len(self._queues)].put_nowait(record)

    async def run(self) -> None:
        """Writes the queued events, until cancelled."""
        async with asyncio.TaskGroup() as writers:
            for queue in self._queues:
                writers.create_task(self._write_all(queue))

    async def _write_all(self, queue: asyncio.Queue[_Record]) -> None:
        while True:
            record = await queue.get()
            try:
                await self._write(record)
            except ApiError as error:
                EVENTS_DROPPED.labels("api-error").inc()
                log.debug("event %s of %s not written: %s", record.reason, record.regarding["name"], error)
            finally:
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
        for queue in self._queues:
            while not queue.empty():
                record = queue.get_nowait()
                queue.task_done()
                EVENTS_DROPPED.labels("shutdown").inc()
                about = record.regarding
                where = f"{about['kind']} {about.get('namespace', '')}/{about['name']}"
                log.warning("event not written in time: %s %s %s: %s", record.type, record.reason, where, record.note)

    async def _write(self, record: _Record) -> None:
        if not self._allowed(record):
            EVENTS_DROPPED.labels("rate-limit").inc()
            return
        key = self._key(record)
        series = self._series.get(key)
        if series is None or self._now() - series.seen_at > self._limits.series_seconds:
            await self._create(key, record)
            return
        series.seen_at = self._now()
        series.count += 1
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
        name = f"{record.regarding['name'][:230]}.{secrets.token_hex(8)}"
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
        await self._api.create(EVENTS, body, namespace)
        EVENTS_WRITTEN.labels(record.type).inc()
        self._series[key] = _Series(name, namespace, self._now())
        self._series.move_to_end(key)
        while len(self._series) > self._limits.remembered:
            self._series.popitem(last=False)

    async def _continue(self, series: _Series, record: _Record) -> None:
        patch = {"series": {"count": series.count, "lastObservedTime": record.time}}
        await self._api.patch(EVENTS, series.name, patch, series.namespace)
        EVENTS_WRITTEN.labels(record.type).inc()


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
