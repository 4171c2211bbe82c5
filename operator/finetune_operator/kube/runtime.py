"""The operator process: caches, workers, lease, servers, and the order in which they start and stop."""

import asyncio
import contextlib
import gc
import logging
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any

from finetune_operator.kube.controller import Controller
from finetune_operator.kube.events import EventRecorder
from finetune_operator.kube.informer import Informer
from finetune_operator.kube.leader_election import LeadershipLost, LeaseElector
from finetune_operator.kube.probes import Probes
from finetune_operator.kube.servers import Server, close_all

log = logging.getLogger(__name__)

Background = Callable[[], Awaitable[None]]


class Runtime:
    """Informers, servers and `background` run on every replica; controllers only where the lease is held.

    `run` returns after a clean stop (SIGTERM, SIGINT or `stop`), and raises whatever ended it otherwise: a lost
    lease, a task that crashed. The process must then exit non-zero; the kubelet starts it afresh.
    """

    def __init__(
        self,
        *,
        controllers: Sequence[Controller],
        informers: Sequence[Informer] = (),
        elector: LeaseElector | None = None,
        recorder: EventRecorder | None = None,
        servers: Sequence[Server] = (),
        probes: Probes | None = None,
        probe_port: int | None = None,
        probe_host: str | None = None,
        background: Sequence[Background] = (),
        leader_background: Sequence[Background] = (),
        grace: float = 10.0,
    ) -> None:
        self.controllers = list(controllers)
        self.informers = _unique([*informers, *(i for c in controllers for i in c.informers)])
        self.probes = probes or Probes(self.informers)
        self._elector = elector
        self._recorder = recorder
        self.servers = list(servers)
        self.background = [*background, *([recorder.run] if recorder else [])]
        self._leader_background = list(leader_background)
        self._grace = grace
        self._when_serving: list[Callable[[], None]] = []
        self._stop = asyncio.Event()
        self._workers_done = asyncio.Event()
        if probe_port is not None:
            self.servers.append(Server(self.probes.app(), probe_port, probe_host))
        if elector:
            for controller in self.controllers:
                controller.gate = elector.check

    def on_serving(self, call: Callable[[], None]) -> None:
        """`call()` once every server listens: only then are the ports known that were asked for as 0."""
        self._when_serving.append(call)

    def stop(self) -> None:
        """Begins the clean stop; `run` returns when it is done."""
        self._stop.set()

    async def run(self, *, handle_signals: bool = True) -> None:
        with _signals(self.stop) if handle_signals else contextlib.nullcontext():
            try:
                await self._run()
            except* LeadershipLost as lost:
                log.error("ending: %s", lost.exceptions[0])
                raise

    async def _run(self) -> None:
        try:
            for server in self.servers:
                await server.start()
            for call in self._when_serving:
                call()
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(_forever(job), name=_name(job)) for job in self._jobs()]
                await self._work_until_stopped(tasks)
                await self._drain_events()
                await close_all(self.servers)
                for task in running:
                    task.cancel()
        finally:
            await close_all(self.servers)

    def _jobs(self) -> list[Background]:
        return [*(i.run for i in self.informers), self.probes.lag.run, *self.background]

    async def _work_until_stopped(self, tasks: asyncio.TaskGroup) -> None:
        """Leads, or stands by, until stop is asked for; then lets the workers finish and releases the lease."""
        tuned = tasks.create_task(self._tune_after_sync(), name="tune-gc")
        work = tasks.create_task(self._lead(), name="controllers")
        await _first(self._stop.wait(), work)
        log.info("stopping")
        self.probes.shutting_down = True
        for controller in self.controllers:
            controller.stop()
        if self._elector and not self._elector.leading:
            work.cancel()  # a standby has nothing to finish
        elif not await _first(self._workers_done.wait(), work, timeout=self._grace):
            log.warning("workers are still busy after %.0f s, cancelling them", self._grace)
            work.cancel()
        await asyncio.wait({work})  # the lease's release has its own bound
        tuned.cancel()

    async def _lead(self) -> None:
        if self._elector:
            await self._elector.run(self._work)
        else:
            await self._work()

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            others = [tasks.create_task(_forever(job), name=_name(job)) for job in self._leader_background]
            workers = [tasks.create_task(c.run(), name=f"controller-{c.name}") for c in self.controllers]
            await asyncio.wait(workers) if workers else await self._stop.wait()
            for task in others:
                task.cancel()
            self._workers_done.set()

    async def _tune_after_sync(self) -> None:
        """The cache is long-lived: out of the collector's sight, a collection costs what the garbage costs."""
        started = time.monotonic()
        for informer in self.informers:
            await informer.settled()
        log.info("caches are full after %.1f s", time.monotonic() - started)
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)

    async def _drain_events(self) -> None:
        if self._recorder:
            await self._recorder.drain()


async def _first(event: Coroutine[Any, Any, Any], work: asyncio.Task[None], timeout: float | None = None) -> bool:
    """Waits for the event or the end of the work; False when neither came in time."""
    waiting = asyncio.ensure_future(event)
    try:
        done, _ = await asyncio.wait({waiting, work}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)
    finally:
        waiting.cancel()


async def _forever(job: Background) -> None:
    """A background task that ends by itself is a crash too."""
    await job()
    raise RuntimeError(f"{_name(job)} ended")


def _name(job: Background) -> str:
    return getattr(job, "__qualname__", repr(job))


def _unique(informers: Sequence[Informer]) -> list[Informer]:
    return list(dict.fromkeys(informers))


@contextlib.contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
