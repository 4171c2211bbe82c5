"""Puts reports into the jobs' status: the newest of each job, every two seconds at most."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable
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
from finetune_operator.plan.preflight import newer
from finetune_operator.plan.progress import is_news, reported_status

log = logging.getLogger(__name__)
Key = tuple[str, str]
Milestone = tuple[str, int, str | None, bool]
"""Uid, attempt, stage, and whether the last step is reached."""
PARALLEL_WRITES = 8
URGENT_A_ROUND = 8
"""Of one job: twice as many as there are stages. A pod that changes them all the time must not write as often as it
speaks."""


@dataclass
class _Pending:
    uid: str
    report: ProgressReport

    @property
    def milestone(self) -> Milestone:
        report = self.report
        return self.uid, report.attempt, report.stage, 0 < report.total_steps <= report.step


class ProgressWriter:
    """Coalesces: what was reported in between is overtaken, never queued.

    A new stage and the last step are written at once: the job may end before the next round.
    """

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
        self._milestones: dict[Key, Milestone] = {}
        self._urgent: set[Key] = set()
        self._hurried: Counter[Key] = Counter()
        """Urgent writes since the last round."""
        self._wake = asyncio.Event()

    def offer(self, namespace: str, name: str, uid: str, report: ProgressReport) -> None:
        """Takes a report that was checked. Never blocks."""
        key = (namespace, name)
        known = self._pending.get(key)
        if known and known.uid == uid:
            news = is_news(known.report, report)
            report = newer(known.report, report, is_news=news)
            if not news:
                known.report = report
                return
        pending = self._pending[key] = _Pending(uid, report)
        if self._milestones.get(key) != pending.milestone:
            self._milestones[key] = pending.milestone
            self._hurried[key] += 1
            if self._hurried[key] <= URGENT_A_ROUND:
                self._urgent.add(key)
                self._wake.set()

    async def run(self) -> None:
        """Writes everything at each interval, and what is urgent in between; until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self._interval
        while True:
            try:
                async with asyncio.timeout_at(due):
                    await self._wake.wait()
            except TimeoutError:
                due = loop.time() + self._interval
                self._hurried.clear()
                await self.flush()
                self._forget_gone()
            else:
                self._wake.clear()
                await self._flush(set(self._urgent))

    async def flush(self) -> None:
        """Writes the newest report of every job."""
        await self._flush(list(self._pending))

    async def _flush(self, keys: Iterable[Key]) -> None:
        """A few at a time."""
        gate = asyncio.Semaphore(PARALLEL_WRITES)

        async def write(key: Key) -> None:
            self._urgent.discard(key)
            if (pending := self._pending.pop(key, None)) is not None:
                async with gate:
                    await self._write(key, pending)

        await asyncio.gather(*(write(key) for key in keys))

    def _job(self, key: Key) -> dict[str, Any] | None:
        cache = cache_of(self._caches, key[0])
        return cache.fine_tune_jobs.get(*key) if cache else None

    def _is_there(self, key: Key) -> bool:
        cache = cache_of(self._caches, key[0])
        return cache is not None and cache.fine_tune_jobs.has(*key)

    async def _write(self, key: Key, pending: _Pending) -> None:
        job = self._job(key)
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
            if not error.not_found:
                log.debug("progress of %s/%s: %s", *key, error)
                # Unless something newer came meanwhile, the next round tries again.
                self._pending.setdefault(key, pending)

    def _forget_gone(self) -> None:
        for key in [key for key in self._milestones if not self._is_there(key)]:
            del self._milestones[key]
