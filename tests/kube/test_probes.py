"""A stuck operator is not healthy, a standby is ready, and the metrics say what dashboards ask for."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from finetune_operator.kube.client import HttpKubeApi
from finetune_operator.kube.informer import Informer
from finetune_operator.kube.probes import LoopLag, Probes, metrics_app
from finetune_operator.kube.servers import Server
from kube.fault_server import FaultServer
from kube.watcher import THINGS, Watcher


class Probed:
    def __init__(self, probes: Probes, session: aiohttp.ClientSession, port: int) -> None:
        self.probes, self._session, self._port = probes, session, port

    async def ask(self, path: str) -> tuple[int, str]:
        async with self._session.get(f"http://127.0.0.1:{self._port}{path}") as response:
            return response.status, await response.text()


@pytest.fixture
async def serve() -> AsyncIterator:
    opened: list[Server] = []
    async with aiohttp.ClientSession() as session:

        async def start(probes: Probes, app: web.Application | None = None) -> Probed:
            server = Server(app or probes.app(), 0, "127.0.0.1")
            await server.start()
            opened.append(server)
            return Probed(probes, session, server.port)

        yield start
        for server in opened:
            await server.close()


async def test_ready_once_the_caches_are_full(api: HttpKubeApi, server: FaultServer, serve) -> None:
    watcher = Watcher(api)
    probed = await serve(Probes([watcher.informer]))
    code, text = await probed.ask("/readyz")
    assert code == 503
    assert "[-]informer-things failed: not yet listed" in text
    async with watcher:
        assert (await probed.ask("/readyz"))[0] == 200


async def test_caches_of_several_namespaces_are_told_apart(api: HttpKubeApi, serve) -> None:
    deaf, heard = Informer(api, THINGS, namespace="deaf"), Informer(api, THINGS, namespace="heard")
    heard.synced.set()
    probed = await serve(Probes([deaf, heard]))
    code, text = await probed.ask("/readyz")
    assert code == 503
    assert "[-]informer-deaf/things failed" in text
    assert "[+]informer-heard/things ok" in text


async def test_a_namespace_that_may_not_be_read_is_no_reason_not_to_be_ready(api: HttpKubeApi, serve) -> None:
    gone, heard = Informer(api, THINGS, namespace="gone"), Informer(api, THINGS, namespace="heard")
    gone.refused.set()
    probed = await serve(Probes([gone, heard]))
    code, text = await probed.ask("/readyz")
    assert code == 503
    assert "[-]informer-gone/things failed" in text, "nothing can be read"
    heard.synced.set()
    assert (await probed.ask("/readyz"))[0] == 200


async def test_not_ready_while_shutting_down_but_alive(serve) -> None:
    probed = await serve(Probes([]))
    assert (await probed.ask("/readyz"))[0] == 200
    probed.probes.shutting_down = True
    assert (await probed.ask("/readyz"))[0] == 503
    assert (await probed.ask("/healthz"))[0] == 200


async def test_a_silent_api_server_is_no_reason_to_restart(connect, server: FaultServer, serve) -> None:
    """All replicas would, at once; the age of the last event tells of the silence."""
    api = await connect(watch_idle=0.2, timeout=0.2)
    watcher = Watcher(api)
    probed = await serve(Probes([watcher.informer], stuck_limit=1.0))
    async with watcher:
        await server.until_seen("watch", 1)
        server.freeze()
        server.cut()
        while watcher.informer.last_event_age() < 1.5:
            assert (await probed.ask("/healthz"))[0] == 200
            await asyncio.sleep(0.05)
        server.thaw()
        await server.put("things", "a")
        await watcher.next()


async def test_an_informer_that_no_longer_tries_is_not_healthy(connect, server: FaultServer, serve) -> None:
    api = await connect(watch_idle=60.0)
    watcher = Watcher(api)
    probed = await serve(Probes([watcher.informer], stuck_limit=0.3))
    async with watcher:
        await server.until_seen("watch", 1)
        while watcher.informer.stuck_for() < 0.3:
            await asyncio.sleep(0.05)
        code, text = await probed.ask("/healthz")
        assert code == 503
        assert "[-]informer-things failed: stuck for" in text


async def test_an_informer_that_waits_its_turn_to_list_is_not_stuck(api: HttpKubeApi, serve) -> None:
    paging = asyncio.Lock()
    informer = Informer(api, THINGS, paging=paging)
    probed = await serve(Probes([informer], stuck_limit=0.1))
    async with paging:
        task = asyncio.create_task(informer.run())
        await asyncio.sleep(0.2)
        assert (await probed.ask("/healthz"))[0] == 200
    await informer.synced.wait()
    task.cancel()


async def test_blocked_event_loop_is_noticed(serve) -> None:
    probed = await serve(Probes([], lag=LoopLag(interval=0.05, limit=0.3)))
    task = asyncio.create_task(probed.probes.lag.run())
    await asyncio.sleep(0.1)
    assert (await probed.ask("/healthz"))[0] == 200
    time.sleep(0.5)  # noqa: ASYNC251 - a reconcile that computes without end
    code, text = await probed.ask("/healthz")
    assert code == 503
    assert "[-]event-loop failed" in text
    task.cancel()


async def test_a_timer_that_has_not_come_yet_is_late_too() -> None:
    lag = LoopLag(limit=5.0)
    assert lag.check() is None
    lag._due -= 7.0
    assert lag.check() is not None


async def test_what_was_late_is_told_for_two_intervals_as_the_kubelet_asks_now_and_then() -> None:
    lag = LoopLag(interval=0.02, limit=0.3)
    running = asyncio.create_task(lag.run())
    await asyncio.sleep(0)
    time.sleep(0.4)  # noqa: ASYNC251 - a reconcile that computes without end
    told = []
    for _ in range(4):
        due = lag._due
        while lag._due == due:
            await asyncio.sleep(0)
        told.append(lag.worst >= 0.3)
    running.cancel()
    assert told == [True, True, False, False]


async def test_checks_of_others_count(serve) -> None:
    probed = await serve(Probes([]))
    wrong: list[str] = ["no certificate"]
    probed.probes.add_ready_check("webhook", lambda: wrong[0] if wrong else None)
    assert (await probed.ask("/readyz"))[0] == 503
    wrong.clear()
    assert (await probed.ask("/readyz"))[0] == 200


async def test_the_port_that_is_open_to_everybody_shows_no_metrics(serve) -> None:
    assert (await (await serve(Probes([]))).ask("/metrics"))[0] == 404
    assert (await (await serve(Probes([]), metrics_app())).ask("/healthz"))[0] == 404


async def test_a_scrape_does_not_hold_up_the_event_loop(serve) -> None:
    threads: list[threading.Thread] = []

    class Many(Collector):
        def collect(self):
            threads.append(threading.current_thread())
            return []

    registry = CollectorRegistry()
    registry.register(Many())
    threads.clear()
    assert (await (await serve(Probes([]), metrics_app(registry))).ask("/metrics"))[0] == 200
    assert threads
    assert threading.main_thread() not in threads


async def test_metrics_are_readable_and_carry_the_known_names(api: HttpKubeApi, serve) -> None:
    probed = await serve(Probes([]), metrics_app())
    async with Watcher(api):
        code, text = await probed.ask("/metrics")
    assert code == 200
    names = {family.name for family in text_string_to_metric_families(text)}
    assert names >= {
        "workqueue_depth",
        "workqueue_adds",
        "workqueue_queue_duration_seconds",
        "workqueue_work_duration_seconds",
        "workqueue_retries",
        "controller_runtime_reconcile",
        "controller_runtime_reconcile_time_seconds",
        "controller_runtime_active_workers",
        "rest_client_requests",
        "leader_election_master_status",
        "process_resident_memory_bytes",
    }
    assert "workqueue_adds_total" in text
    assert "_created" not in text
