"""What the kubelet asks (/healthz, /readyz), and what Prometheus asks (/metrics): two applications, two ports."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from finetune_operator.kube.informer import Informer
from finetune_operator.kube.metrics import REGISTRY

Check = Callable[[], str | None]
"""None when all is well, else what is wrong."""


@dataclass
class LoopLag:
    """How late the event loop runs timers: code that blocks it makes everything deaf, leases and probes included."""

    interval: float = 1.0
    limit: float = 5.0
    _due: float = field(default_factory=lambda: time.monotonic() + 1.0)
    worst: float = 0.0
    """Seconds, of the last two intervals."""

    async def run(self) -> None:
        before = 0.0
        while True:
            self._due = time.monotonic() + self.interval
            await asyncio.sleep(self.interval)
            late = max(0.0, time.monotonic() - self._due)
            self.worst, before = max(late, before), late

    def check(self) -> str | None:
        late = max(self.worst, time.monotonic() - self._due)
        return f"the event loop runs {late:.1f} s late" if late >= self.limit else None


class Probes:
    """Alive = the event loop turns and every informer goes on trying. Ready = caches full, not shutting down.

    An API server that is silent is no reason to die: a restart brings it back no sooner, and would take down every
    replica at once, webhooks and progress receivers included. `informer_last_event_age_seconds` tells of it.

    Leadership is no part of either: a standby is ready, its webhooks serve.
    """

    def __init__(
        self,
        informers: Sequence[Informer],
        *,
        stuck_limit: float = 300.0,
        lag: LoopLag | None = None,
    ) -> None:
        self._informers = informers
        self._stuck_limit = stuck_limit
        self.lag = lag or LoopLag()
        self.shutting_down = False
        self._ready: dict[str, Check] = {"shutdown": self._stopping}

    def add_ready_check(self, name: str, check: Check) -> None:
        """E.g. the webhook's certificate is loaded."""
        self._ready[name] = check

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        return app

    async def _healthz(self, _: web.Request) -> web.Response:
        moving = {f"informer-{i.name}": self._stuck(i) for i in self._informers}
        return _verdict({"event-loop": self.lag.check()} | moving)

    async def _readyz(self, _: web.Request) -> web.Response:
        synced = {f"informer-{i.name}": self._unsynced(i) for i in self._informers}
        return _verdict({name: check() for name, check in self._ready.items()} | synced)

    def _stopping(self) -> str | None:
        return "shutting down" if self.shutting_down else None

    def _stuck(self, informer: Informer) -> str | None:
        seconds = informer.stuck_for()
        return f"stuck for {seconds:.0f} s" if seconds >= self._stuck_limit else None

    def _unsynced(self, informer: Informer) -> str | None:
        """What may not be read in one namespace keeps nobody from working in the others."""
        if informer.synced.is_set():
            return None
        others = any(one.kind == informer.kind and one.synced.is_set() for one in self._informers)
        return None if informer.refused.is_set() and others else "not yet listed"


def metrics_app(registry: CollectorRegistry = REGISTRY) -> web.Application:
    """On a port of its own: the kubelet's is open to everybody, and metrics name namespaces and jobs."""

    async def metrics(_: web.Request) -> web.Response:
        text = await asyncio.to_thread(generate_latest, registry)  # seconds of work with thousands of jobs
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    return app


def _verdict(results: dict[str, str | None]) -> web.Response:
    lines = [f"[+]{name} ok" if wrong is None else f"[-]{name} failed: {wrong}" for name, wrong in results.items()]
    healthy = not any(results.values())
    return web.Response(text="\n".join([*lines, ""]), status=200 if healthy else 503)
