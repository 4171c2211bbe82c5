"""Puts reports into the jobs' status: the newest of each job, every two seconds at most."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from finetune_api.names import PROGRESS_FIELD_MANAGER
from finetune_api.reports import ProgressReport
from finetune_operator.controllers.fine_tune_job import utc_now
from finetune_operator.controllers.job_caches import JobCaches, cache_of
from finetune_operator.kinds import FINE_TUNE_JOBS
from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.errors import ApiError
from finetune_operator.plan.progress import is_news, reported_status

log = logging.getLogger(__name__)
Key = tuple[str, str]
PARALLEL_WRITES = 8


@dataclass
class _Pending:
    uid: str
    report: ProgressReport


class ProgressWriter:
    """Coalesces: what was reported in between is overtaken, never queued."""

    def __init__(
        self,
        api: KubeApi,
        caches: list[JobCaches],
        *,
        interval: float = 2.0,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._api = api
        self._caches = caches
        self._interval = interval
        self._clock = clock
        self._pending: dict[Key, _Pending] = {}
        self._wake = asyncio.Event()

    def offer(self, namespace: str, name: str, uid: str, report: ProgressReport) -> None:
        """Takes a report that was checked. Never blocks."""
        known = self._pending.get((namespace, name))
        if known and known.uid == uid and not is_news(known.report, report):
            return
        self._pending[namespace, name] = _Pending(uid, report)
        self._wake.set()

    async def run(self) -> None:
        """Writes what is pending, then rests for the interval; until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.flush()
            await asyncio.sleep(self._interval)

    async def flush(self) -> None:
        """Writes the newest report of every job, a few at a time."""
        batch, self._pending = self._pending, {}
        gate = asyncio.Semaphore(PARALLEL_WRITES)

        async def write(key: Key, pending: _Pending) -> None:
            async with gate:
                await self._write(key, pending)

        await asyncio.gather(*(write(key, pending) for key, pending in batch.items()))

    async def _write(self, key: Key, pending: _Pending) -> None:
        cache = cache_of(self._caches, key[0])
        job = cache.fine_tune_jobs.get(*key) if cache else None
        if job is None or job["metadata"]["uid"] != pending.uid:
            return
        status = reported_status(job.get("status") or {}, pending.report, self._clock())
        if not status:
            return
        body: dict[str, Any] = {
            # A report must never land on a newer state of the job than the one it was checked against.
            "metadata": {"resourceVersion": job["metadata"]["resourceVersion"]},
            "status": status,
        }
        try:
            await self._api.patch(
                FINE_TUNE_JOBS,
                key[1],
                body,
                key[0],
                subresource="status",
                field_manager=PROGRESS_FIELD_MANAGER,
            )
        except ApiError as error:
            if error.not_found:
                return
            log.debug("progress of %s/%s: %s", *key, error)
            # Unless something newer came meanwhile, the next round tries again.
            self._pending.setdefault(key, pending)
            self._wake.set()
