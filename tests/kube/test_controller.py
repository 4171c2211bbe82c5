"""Reconciles: what enqueues them, what their results and failures lead to, how they stop."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from finetune_operator.kube.client import ApiError, HttpKubeApi
from finetune_operator.kube.controller import Controller, Key, Result, owner_keys
from finetune_operator.kube.expectations import Expectations
from finetune_operator.kube.informer import Informer
from finetune_operator.kube.metrics import REGISTRY
from finetune_operator.kube.resources import Kind
from finetune_operator.kube.work_queue import RateLimit
from kube.fault_server import FaultServer, status
from kube.watcher import FAST, THINGS, Watcher

OTHERS = Kind("v1", "Other", "others")

QUICK = RateLimit(base=0.001, cap=0.01, per_second=10_000, burst=1000)


class Running:
    """A controller at work; `await next()` is the key of the next reconcile."""

    def __init__(self, reconcile: Callable[[Key], Awaitable[Result | None]] | None = None, **options) -> None:
        self._calls: asyncio.Queue[Key] = asyncio.Queue()
        self._reconcile = reconcile
        name = options.pop("name", "test")
        self.controller = Controller(name, self._record, **({"workers": 2, "limit": QUICK} | options))

    async def _record(self, key: Key) -> Result | None:
        self._calls.put_nowait(key)
        return await self._reconcile(key) if self._reconcile else None

    async def next(self) -> Key:
        async with asyncio.timeout(10):
            return await self._calls.get()

    @property
    def unread(self) -> int:
        return self._calls.qsize()

    async def __aenter__(self) -> "Running":
        self.task = asyncio.create_task(self.controller.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def test_every_change_enqueues_the_key(api: HttpKubeApi, server: FaultServer) -> None:
    await server.put("things", "a")
    watcher = Watcher(api)
    running = Running()
    running.controller.watch(watcher.informer)
    async with watcher, running:
        assert await running.next() == ("d", "a")
        await server.put("things", "a", spec={})
        assert await running.next() == ("d", "a")
        await server.remove("things", "a")
        assert await running.next() == ("d", "a")


async def test_child_enqueues_its_owner_also_the_one_it_had_before(api: HttpKubeApi, server: FaultServer) -> None:
    def owner(name: str, **extra):
        return {"ownerReferences": [{"kind": "Parent", "name": name, "controller": True} | extra]}

    watcher = Watcher(api)
    running = Running()
    running.controller.watch(watcher.informer, owner_keys("Parent"))
    async with watcher, running:
        await server.put("things", "child", metadata=owner("one"))
        assert await running.next() == ("d", "one")
        await server.put("things", "child", metadata=owner("two"))
        assert {await running.next(), await running.next()} == {("d", "one"), ("d", "two")}
        await server.put("things", "stranger", metadata=owner("three", kind="Other"))
        await server.put("things", "follower", metadata=owner("four", controller=False))
        await server.put("things", "last", metadata=owner("five"))
        assert await running.next() == ("d", "five")


async def test_waits_for_the_caches() -> None:
    watcher = Watcher(None)
    running = Running()
    running.controller.watch(watcher.informer)
    async with running:
        running.controller.queue.add(("d", "a"))
        await asyncio.sleep(0.05)
        assert running.unread == 0
        watcher.informer.synced.set()
        assert await running.next() == ("d", "a")


async def test_a_namespace_that_may_not_be_read_holds_up_its_own_keys_alone(
    connect: Callable[..., Awaitable[HttpKubeApi]], server: FaultServer
) -> None:
    await server.put("things", "a")
    await server.put("others", "b")
    refused, others = await connect(), await connect()
    gone = [Informer(refused, THINGS, namespace="d", timing=FAST), Informer(others, OTHERS, namespace="d", timing=FAST)]
    there = Watcher(others, namespace="e")
    running = Running()
    for informer in (*gone, there.informer):
        running.controller.watch(informer)
    allowed = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        if "/d/things" not in request.path or allowed.is_set():
            return await server._route(request)
        server.script("list", answer)
        return status(403, "Forbidden")

    server.script("list", *[answer] * 3)
    tasks = [asyncio.create_task(informer.run()) for informer in gone]
    async with there, running:
        running.controller.queue.add(("e", "any"))
        assert await running.next() == ("e", "any")
        assert gone[1].synced.is_set()
        assert running.unread == 0, "what is known of d is not all that there is"
        allowed.set()
        assert {await running.next(), await running.next()} == {("d", "a"), ("d", "b")}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_exception_is_logged_counted_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    failures = [ValueError("boom"), ApiError(500, "InternalError", "x"), ApiError(409, "Conflict", "stale")]

    async def reconcile(_: Key) -> None:
        if failures:
            raise failures.pop(0)

    async with Running(reconcile, name="failing") as running:
        with caplog.at_level(logging.WARNING):
            running.controller.queue.add(("d", "a"))
            for _ in range(4):
                await running.next()
        while running.controller.queue.processing:
            await asyncio.sleep(0)
        assert running.controller.queue.failures(("d", "a")) == 0
    assert "boom" in caplog.text
    assert "stale" not in caplog.text  # a conflict is daily business
    results = {
        result: REGISTRY.get_sample_value(
            "controller_runtime_reconcile_total", {"controller": "failing", "result": result}
        )
        for result in ("success", "error", "requeue")
    }
    assert results == {"success": 1, "error": 2, "requeue": 1}
    assert REGISTRY.get_sample_value("controller_runtime_reconcile_panics_total", {"controller": "failing"}) == 1


def test_failures_are_counted_from_zero() -> None:
    """An alert on `increase()` does not see the first count of a series that begins with it."""
    Running(name="fresh")
    for name in ("controller_runtime_reconcile_panics_total", "controller_runtime_reconcile_errors_total"):
        assert REGISTRY.get_sample_value(name, {"controller": "fresh"}) == 0


async def test_cancelled_call_inside_a_reconcile_is_a_failure_and_not_the_end() -> None:
    cancelled = []

    async def reconcile(_: Key) -> None:
        if not cancelled:
            cancelled.append(True)
            raise asyncio.CancelledError

    async with Running(reconcile, workers=1) as running:
        running.controller.queue.add(("d", "a"))
        assert [await running.next(), await running.next()] == [("d", "a"), ("d", "a")]


async def test_result_brings_the_key_back() -> None:
    async def reconcile(_: Key) -> Result:
        return Result(requeue_after=0.01)

    async with Running(reconcile) as running:
        running.controller.queue.add(("d", "a"))
        assert [await running.next() for _ in range(3)] == [("d", "a")] * 3


async def test_pause_that_the_server_asks_for_is_kept() -> None:
    async def reconcile(_: Key) -> None:
        raise ApiError(429, "TooManyRequests", retry_after=50)

    async with Running(reconcile) as running:
        running.controller.queue.add(("d", "a"))
        await running.next()
        while running.controller.queue.processing:
            await asyncio.sleep(0)
        assert 45 < (running.controller.queue.due_in(("d", "a")) or 0) <= 50


async def test_resync_brings_every_key_again(api: HttpKubeApi, server: FaultServer) -> None:
    await server.put("things", "a")
    await server.put("things", "b")
    watcher = Watcher(api)
    running = Running(resync=0.1)
    running.controller.watch(watcher.informer)
    async with watcher, running:
        seen = [await running.next() for _ in range(6)]
    assert set(seen[2:4]) == set(seen[4:6]) == {("d", "a"), ("d", "b")}


async def test_one_key_is_never_in_two_workers() -> None:
    busy, most = 0, 0
    done = asyncio.Event()

    async def reconcile(_: Key) -> None:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0.01)
        busy -= 1
        if running.unread >= 3:
            done.set()

    running = Running(reconcile, workers=8)
    async with running:
        while not done.is_set():
            running.controller.queue.add(("d", "a"))
            await asyncio.sleep(0.001)
    assert most == 1


async def test_key_waits_until_its_own_write_is_in_the_cache(api: HttpKubeApi, server: FaultServer) -> None:
    expectations = Expectations(timeout=60)
    watcher = Watcher(api)
    running = Running(expectations=expectations)
    expectations.watch(watcher.informer)
    running.controller.watch(watcher.informer)
    async with watcher, running:
        answer = await server.put("things", "a")
        await running.next()
        server.silent = True
        ahead = {"metadata": answer["metadata"] | {"resourceVersion": str(server.version + 1)}}
        expectations.expect(("d", "a"), "Thing", ahead)
        running.controller.queue.add(("d", "a"))
        while running.controller.queue.delayed == 0:
            await asyncio.sleep(0)
        assert running.unread == 0
        server.silent = False
        await server.put("things", "a", spec={"written": True})
        assert await running.next() == ("d", "a")


async def test_stop_lets_the_worker_finish_and_starts_nothing_new() -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()
    ended = []

    async def reconcile(key: Key) -> None:
        begun.set()
        await may_end.wait()
        ended.append(key)

    async with Running(reconcile, workers=1) as running:
        running.controller.queue.add(("d", "a"))
        running.controller.queue.add(("d", "b"))
        await begun.wait()
        running.controller.stop()
        await asyncio.sleep(0)
        assert not running.task.done()
        may_end.set()
        async with asyncio.timeout(5):
            await running.task
    assert ended == [("d", "a")]


async def test_crash_outside_the_reconcile_ends_the_controller(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Running() as running:
        monkeypatch.setattr(running.controller, "_succeeded", lambda *_: 1 / 0)
        running.controller.queue.add(("d", "a"))
        async with asyncio.timeout(5):
            with pytest.raises(ExceptionGroup) as crash:
                await running.task
    assert crash.group_contains(ZeroDivisionError)


async def test_gate_ends_the_worker_before_it_acts() -> None:
    async with Running() as running:

        def closed() -> None:
            raise PermissionError("not the leader")

        running.controller.gate = closed
        running.controller.queue.add(("d", "a"))
        async with asyncio.timeout(5):
            with pytest.raises(ExceptionGroup):
                await running.task
        assert running.unread == 0


async def test_each_reconcile_says_anew_when_the_next_one_is_due() -> None:
    results = [Result(requeue_after=0.01), None]

    async def reconcile(_: Key) -> Result | None:
        return results.pop(0) if results else None

    async with Running(reconcile) as running:
        running.controller.queue.add(("d", "a"))
        await running.next()
        running.controller.queue.add(("d", "a"))
        await running.next()
        assert running.controller.queue.delayed == 0
