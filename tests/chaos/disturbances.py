"""What real clusters do to an operator and its pods, one thing at a time, drawn at random."""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from chaos.pod_faults import PodFaults
from chaos.replicas import Replicas
from controllers.cluster_user import NAMESPACE, ClusterUser
from finetune_local.apiserver.cluster import Refuse
from finetune_local.apiserver.status_error import StatusError, conflict, too_many_requests
from finetune_local.cluster import Cluster
from finetune_operator.kinds import FINE_TUNE_JOBS
from finetune_operator.kube.errors import ApiError

Resource = dict[str, Any]
TIMED_OUT = StatusError(500, "InternalError", "etcdserver: request timed out")
WRITTEN_SECONDS = 2.5
"""The receiver writes what it has every two seconds."""
STORM_SECONDS = (0.3, 2.0)
WAITING_SECONDS = 0.7
"""After the end of a pod: its job is between two attempts."""
CLOCK_JUMPS = (-86_400.0, -3600.0, -5.0, 0.0, 5.0, 3600.0, 86_400.0)
"""Seconds by which the operator's wall clock is wrong."""
OPERATORS_PATHS = ("/apis/finetune-operator.io/", "/apis/batch/", "/api/v1/namespaces/")


class Disturbances:
    """`await next()` does one of them."""

    def __init__(self, cluster: Cluster, user: ClusterUser, replicas: Replicas, chance: random.Random) -> None:
        self._cluster = cluster
        self._user = user
        self._replicas = replicas
        self._chance = chance
        self.pods = PodFaults(cluster, user, replicas, chance)
        self.done: Counter[str] = Counter()
        self._kinds: list[Callable[[], Awaitable[None]]] = [
            self.kill_an_operator,
            self.storm_of_conflicts,
            self.storm_of_throttling,
            self.storm_of_errors,
            self.storm_of_lost_answers,
            self.slow_server,
            self.cut_watches,
            self.compact,
            self.jump_the_clock,
            self.pods.crash_a_pod,
            self.pods.evict_a_pod,
            self.pods.delete_a_pod,
            self.pods.fill_the_disk,
            self.pods.slow_storage,
            self.pods.end_by_its_own_fault,
            self.end_by_its_own_fault_in_a_storm,
            self.save_a_checkpoint,
            self.save_a_checkpoint,
            self.suspend_or_resume,
            self.delete_a_job,
        ]
        self._deck: list[Callable[[], Awaitable[None]]] = []

    async def next(self) -> None:
        """Each kind once, checkpoints twice, shuffled, before any comes again."""
        if not self._deck:
            self._deck = list(self._kinds)
            self._chance.shuffle(self._deck)
        kind = self._deck.pop()
        await kind()
        self.done[kind.__name__] += 1

    # The operator and its server

    async def kill_an_operator(self) -> None:
        replica = self._chance.choice(self._replicas.all)
        if replica.process:
            replica.signal(signal.SIGKILL)

    async def storm_of_conflicts(self) -> None:
        error = conflict("finetune-operator.io", "finetunejobs", "x", "the object has been modified")
        async with self._storm(error, ("PATCH", "PUT")):
            pass

    async def storm_of_throttling(self) -> None:
        async with self._storm(too_many_requests(1), ("GET", "POST", "PATCH", "DELETE")):
            pass

    async def storm_of_errors(self) -> None:
        """Nothing takes effect, which the client cannot know."""
        async with self._storm(TIMED_OUT, ("GET", "POST", "PATCH", "DELETE")):
            pass

    async def storm_of_lost_answers(self) -> None:
        """Writes take effect, and the client is told that they did not."""
        async with self._storm(TIMED_OUT, ("POST", "PATCH", "DELETE"), after=True):
            pass

    @asynccontextmanager
    async def _storm(self, error: StatusError, methods: tuple[str, ...], *, after: bool = False) -> AsyncIterator[None]:
        def refuse(method: str, path: str) -> StatusError | None:
            hit = method in methods and path.startswith(OPERATORS_PATHS) and self._chance.random() < 0.5
            return error if hit else None

        faults, knob = self._cluster.server.cluster.faults, "lose_answer" if after else "refuse"
        before: Refuse | None = getattr(faults, knob)
        setattr(faults, knob, refuse)
        try:
            yield
            await asyncio.sleep(self._chance.uniform(*STORM_SECONDS))
        finally:
            setattr(faults, knob, before)

    async def slow_server(self) -> None:
        faults = self._cluster.server.cluster.faults
        faults.delay_seconds = 0.3
        await asyncio.sleep(self._chance.uniform(*STORM_SECONDS))
        faults.delay_seconds = 0.0

    async def cut_watches(self) -> None:
        self._cluster.server.cluster.cut_watches()

    async def compact(self) -> None:
        """Watches that are cut at the same time get 410 Gone and must list again."""
        self._cluster.server.cluster.compact()
        self._cluster.server.cluster.cut_watches()

    async def jump_the_clock(self) -> None:
        """While a job waits to start again. It stays wrong until it jumps again; an operator that is off by a day still
        brings its jobs to their end."""
        await self.pods.crash_a_pod()
        await asyncio.sleep(WAITING_SECONDS)
        self._replicas.clock.set(self._chance.choice(CLOCK_JUMPS))

    # Pods

    async def end_by_its_own_fault_in_a_storm(self) -> None:
        """The operator learns of it, and tells of it, while its requests fail; it may be killed besides."""
        error, after = self._chance.choice([(TIMED_OUT, False), (TIMED_OUT, True), (too_many_requests(1), False)])
        async with self._storm(error, ("GET", "POST", "PATCH", "DELETE"), after=after):
            await self.pods.end_by_its_own_fault()
            if self._chance.random() < 0.5:
                await self.kill_an_operator()

    async def save_a_checkpoint(self) -> None:
        await self.pods.save_a_checkpoint(WRITTEN_SECONDS)

    # Jobs

    async def suspend_or_resume(self) -> None:
        if job := await self._job(lambda status: not status.get("completionTime")):
            await self._user.edit(job["metadata"]["name"], suspend=not job["spec"].get("suspend", False))

    async def delete_a_job(self) -> None:
        if job := await self._job(lambda status: True):
            await self._user.api.delete(FINE_TUNE_JOBS, job["metadata"]["name"], NAMESPACE)

    async def _job(self, fits: Callable[[Resource], bool]) -> Resource | None:
        items = [one for one in await self.jobs() if fits(one.get("status") or {})]
        return self._chance.choice(items) if items else None

    async def jobs(self) -> list[Resource]:
        items: list[Resource] = (await self._user.api.list(FINE_TUNE_JOBS, NAMESPACE, limit=0))["items"]
        return items

    async def resume_all(self) -> None:
        """So that every job can end."""
        for job in await self.jobs():
            if job["spec"].get("suspend"):
                try:
                    await self._user.edit(job["metadata"]["name"], suspend=False)
                except ApiError as error:
                    if not error.not_found:
                        raise
