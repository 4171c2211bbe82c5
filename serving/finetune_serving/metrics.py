"""Prometheus metrics of the server. Labels are bounded: routes are templates, codes are numbers."""

import time
from collections.abc import Callable
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

T = TypeVar("T")

CLIENT_CLOSED_REQUEST = 499
"""nginx's code for a client that went away before it was answered."""
LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """One registry a server, so that two in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.requests = self._make(
            Counter, "requests", "Requests by route and status code.", labelnames=("code", "route")
        )
        self.duration = self._make(
            Histogram,
            "request_duration_seconds",
            "Time from a request's first byte to its answer's last.",
            labelnames=("route",),
            buckets=LATENCY_BUCKETS,
        )
        self.in_flight = self._make(Gauge, "requests_in_flight", "Requests being answered, waiting included.")
        self.ready = self._make(Gauge, "ready", "1 once the model answers, 0 while loading or draining.")
        self.load_seconds = self._make(Gauge, "model_load_duration_seconds", "Time to fetch, verify and load.")
        self.model_info = self._make(
            Gauge,
            "model_info",
            "The model that is served; always 1.",
            labelnames=("model", "version", "task", "format", "digest"),
        )
        self.batch_size = self._make(Histogram, "batch_size", "Texts in one forward pass.", buckets=BATCH_BUCKETS)
        self.prompt_tokens = self._make(Counter, "prompt_tokens", "Tokens read.")
        self.generated_tokens = self._make(Counter, "generated_tokens", "Tokens written.")
        self.first_token = self._make(
            Histogram,
            "time_to_first_token_seconds",
            "Time from a request's start to its first token.",
            buckets=LATENCY_BUCKETS,
        )

    def _make(self, kind: Callable[..., T], name: str, text: str, **options: object) -> T:
        return kind(f"finetune_serving_{name}", text, registry=self.registry, **options)


class RequestMetrics:
    """ASGI middleware: counts and times every request under the template of its route."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        code = CLIENT_CLOSED_REQUEST

        async def observed_send(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            await send(message)

        start = time.perf_counter()
        try:
            await self.app(scope, receive, observed_send)
        except Exception:
            code = 500
            raise
        finally:
            route = getattr(scope.get("route"), "path", "unknown")
            self.metrics.requests.labels(str(code), route).inc()
            self.metrics.duration.labels(route).observe(time.perf_counter() - start)
