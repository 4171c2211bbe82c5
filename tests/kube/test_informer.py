"""The cache stays true whatever the connection, the server or the history does."""

import asyncio
import json
from dataclasses import replace

import pytest

from finetune_operator.kube.client import HttpKubeApi
from finetune_operator.kube.informer import Informer
from finetune_operator.kube.metrics import REGISTRY
from kube.fault_server import FaultServer, answering, event, status, streaming
from kube.watcher import FAST, THINGS, Watcher


def watches_from(server: FaultServer) -> list[str]:
    return [seen.query["resourceVersion"] for seen in server.seen if seen.watch]


def error_event(code: int, reason: str) -> bytes:
    return event("ERROR", {"kind": "Status", "apiVersion": "v1", "code": code, "reason": reason, "message": "x"})


async def test_lists_then_watches(api: HttpKubeApi, server: FaultServer) -> None:
    await server.put("things", "a")
    async with Watcher(api) as watcher:
        assert await watcher.next() == ("add", "a")
        await server.put("things", "b")
        assert await watcher.next() == ("add", "b")
        await server.put("things", "a", spec={"x": 1})
        assert await watcher.next() == ("update", "a")
        await server.remove("things", "b")
        assert await watcher.next() == ("delete", "b")
        assert watcher.names() == {"a"}
        assert watcher.informer.get("d", "a")["spec"] == {"x": 1}
        assert watcher.informer.get("d", "b") is None
    assert (server.count("list"), server.count("watch")) == (1, 1)


async def test_asks_for_bookmarks_and_a_random_timeout(api: HttpKubeApi, server: FaultServer) -> None:
    async with Watcher(api):
        await server.until_seen("watch", 1)
    query = server.seen[-1].query
    assert query["allowWatchBookmarks"] == "true"
    assert 240 <= int(query["timeoutSeconds"]) <= 360


async def test_lists_in_pages(api: HttpKubeApi, server: FaultServer) -> None:
    for number in range(25):
        await server.put("things", f"t{number}")
    async with Watcher(api, page_size=10) as watcher:
        assert len(watcher.informer.list()) == 25
    assert server.count("list") == 3


async def test_expired_continue_token_falls_back_to_one_unpaged_list(api: HttpKubeApi, server: FaultServer) -> None:
    for number in range(25):
        await server.put("things", f"t{number}")

    async def expire_then_serve(request):
        server.script("list", answering(lambda: status(410, "Expired")))
        return server._list(request, "things", None)

    server.script("list", expire_then_serve)
    async with Watcher(api, page_size=10) as watcher:
        assert len(watcher.informer.list()) == 25
    assert "limit" not in server.seen[2].query
    assert server.count("list") == 3


async def test_410_at_once_lists_again_and_reports_what_was_deleted_meanwhile(
    api: HttpKubeApi, server: FaultServer
) -> None:
    for name in "abc":
        await server.put("things", name)
    async with Watcher(api) as watcher:
        await watcher.take(3)
        await server.stop()
        await server.remove("things", "a")
        await server.put("things", "b", spec={"changed": True})
        await server.put("things", "new")
        server.compact("things")
        await server.start()
        assert await watcher.take(3) == {("delete", "a"), ("update", "b"), ("add", "new")}
        assert watcher.names() == {"b", "c", "new"}
        assert watcher.unread == 0  # c did not change: nothing is told
    assert server.count("list") == 2


async def test_410_in_the_stream_lists_again(api: HttpKubeApi, server: FaultServer) -> None:
    await server.put("things", "a")
    await server.put("things", "b")
    server.script("watch", streaming(error_event(410, "Expired")))
    async with Watcher(api) as watcher:
        await watcher.take(2)
        await server.until_seen("list", 2)
        await server.remove("things", "a")
        assert await watcher.next() == ("delete", "a")


async def test_410_again_and_again_is_slowed_down(api: HttpKubeApi, server: FaultServer) -> None:
    server.script("watch", *[streaming(error_event(410, "Expired"))] * 500)
    async with Watcher(api, timing=replace(FAST, first_backoff=0.1, longest_backoff=0.4)):
        await server.until_seen("watch", 3)
        before = server.count("list")
        await asyncio.sleep(1)
        assert server.count("list") - before <= 1 + 1 / 0.05


async def test_error_event_other_than_410_resumes_where_it_was(api: HttpKubeApi, server: FaultServer) -> None:
    await server.put("things", "a")
    server.script("watch", streaming(error_event(500, "InternalError")))
    async with Watcher(api) as watcher:
        await watcher.next()
        await server.until_seen("watch", 2)
        await server.put("things", "b")
        assert await watcher.next() == ("add", "b")
    assert server.count("list") == 1
    assert len(set(watches_from(server)[:2])) == 1


async def test_error_events_without_end_make_it_list_again(api: HttpKubeApi, server: FaultServer) -> None:
    server.script("watch", *[streaming(error_event(500, "InternalError"))] * 3)
    async with Watcher(api) as watcher:
        await server.until_seen("list", 2)
        await server.put("things", "b")
        assert await watcher.next() == ("add", "b")


async def test_half_open_watch_is_noticed_and_resumed(connect, server: FaultServer) -> None:
    api = await connect(watch_idle=0.3)
    async with Watcher(api) as watcher:
        await server.until_seen("watch", 1)
        server.silent = True
        await server.put("things", "a")
        await server.until_seen("watch", 2)
        server.silent = False
        server.cut()
        assert await watcher.next() == ("add", "a")
    assert server.count("list") == 1


async def test_frozen_server_is_noticed_when_a_watch_gets_no_answer(connect, server: FaultServer) -> None:
    api = await connect(watch_idle=0.3)
    await server.put("things", "a")
    async with Watcher(api) as watcher:
        await watcher.next()
        server.freeze()
        server.cut()
        await server.until_seen("watch", 3)
        server.thaw()
        await server.put("things", "b")
        assert await watcher.next() == ("add", "b")


async def test_cut_connection_resumes_without_a_list_and_without_losing_or_repeating(
    api: HttpKubeApi, server: FaultServer
) -> None:
    async with Watcher(api) as watcher:
        for number in range(20):
            await server.put("things", f"t{number}")
            if number % 5 == 0:
                server.cut()
        assert [await watcher.next() for _ in range(20)] == [("add", f"t{number}") for number in range(20)]
        assert watcher.unread == 0
    assert server.count("list") == 1


async def test_watch_that_is_cut_goes_on_from_the_last_event(api: HttpKubeApi, server: FaultServer) -> None:
    """And repeats nothing since the list: an old state of an object would overwrite the new one."""
    async with Watcher(api) as watcher:
        made = await server.put("things", "a")
        assert await watcher.next() == ("add", "a")
        server.cut()
        await server.until_seen("watch", 2)
    assert watches_from(server)[1] == made["metadata"]["resourceVersion"]


async def test_event_cut_in_half_is_delivered_by_the_next_watch(api: HttpKubeApi, server: FaultServer) -> None:
    item = await server.put("things", "a")
    line = event("ADDED", item)
    server.collections["things"].items.clear()
    server.version -= 1
    server.script("watch", streaming(line[: len(line) // 2]))
    async with Watcher(api) as watcher:
        assert await watcher.next() == ("add", "a")
        assert watcher.unread == 0


@pytest.mark.parametrize("garbage", [b"not json\n", b'{"type": "ADDED", "object": {}}\n', b'"text"\n', b"[]\n"])
async def test_garbage_in_the_stream_is_a_failed_watch(api: HttpKubeApi, server: FaultServer, garbage: bytes) -> None:
    server.script("watch", streaming(garbage))
    async with Watcher(api) as watcher:
        await server.until_seen("watch", 2)
        await server.put("things", "b")
        assert await watcher.next() == ("add", "b")


async def test_event_longer_than_any_read_buffer(api: HttpKubeApi, server: FaultServer) -> None:
    async with Watcher(api) as watcher:
        await server.put("things", "big", data={"text": "x" * 5_000_000})
        assert await watcher.next() == ("add", "big")
        assert len(watcher.informer.get("d", "big")["data"]["text"]) == 5_000_000


async def test_watch_that_ends_in_peace_is_resumed_without_a_list(api: HttpKubeApi, server: FaultServer) -> None:
    async with Watcher(api, timing=replace(FAST, shortest_watch=1, longest_watch=1)) as watcher:
        await server.until_seen("watch", 2)
        await server.put("things", "a")
        assert await watcher.next() == ("add", "a")
    assert server.count("list") == 1


async def test_reconnects_are_few_during_an_outage(connect, server: FaultServer) -> None:
    api = await connect()
    timing = replace(FAST, first_backoff=0.05, longest_backoff=0.4)
    async with Watcher(api, timing=timing) as watcher:
        await server.until_seen("watch", 1)
        opened = REGISTRY.get_sample_value("informer_watches_total", {"kind": "things", "namespace": ""})
        await server.stop()
        await asyncio.sleep(1.5)
        attempts = REGISTRY.get_sample_value("informer_watches_total", {"kind": "things", "namespace": ""}) - opened
        await server.start()
        await server.put("things", "a")
        assert await watcher.next() == ("add", "a")
    # The shortest possible waits are 0.025 + 0.05 + 0.1 + 0.2 + 0.2 ...: no more than ten fit into the outage.
    assert 2 <= attempts <= 10
    assert server.count("list") == 1  # the version is still good: no load on a server that has just come back


async def test_server_that_closes_every_watch_at_once_is_not_hammered(api: HttpKubeApi, server: FaultServer) -> None:
    server.script("watch", *[streaming()] * 500)
    async with Watcher(api, timing=replace(FAST, first_backoff=0.1, longest_backoff=0.4, premature=1.0)):
        await server.until_seen("watch", 3)
        before = server.count("watch")
        await asyncio.sleep(1)
        assert server.count("watch") - before <= 1 + 1 / 0.05


async def test_retry_after_on_a_watch_is_respected(api: HttpKubeApi, server: FaultServer) -> None:
    times: list[float] = []

    def refuse():
        times.append(asyncio.get_running_loop().time())
        return status(429, "TooManyRequests", **{"Retry-After": "1"})

    away = answering(lambda: status(503, "ServiceUnavailable"))
    server.script("watch", answering(refuse), answering(refuse), away)
    async with Watcher(api):
        await server.until_seen("watch", 4)
    assert times[1] - times[0] >= 1.0
    assert server.count("list") == 1  # the version will do when the server is back


async def test_bookmark_moves_the_version_that_the_next_watch_starts_from(
    api: HttpKubeApi, server: FaultServer
) -> None:
    await server.put("things", "a")
    async with Watcher(api) as watcher:
        await watcher.next()
        await server.until_seen("watch", 1)
        version = await server.bookmark("things")
        await server.put("things", "b")
        assert await watcher.next() == ("add", "b")
        version = await server.bookmark("things")
        async with asyncio.timeout(10):
            while watcher.informer.resource_version != str(version):
                await asyncio.sleep(0.01)
        server.compact("things")
        server.cut()
        await server.until_seen("watch", 2)
        await server.put("things", "c")
        assert await watcher.next() == ("add", "c")
    assert watches_from(server)[1] == str(version)
    assert server.count("list") == 1  # without the bookmark the compaction would have forced one


async def test_same_name_created_anew_is_a_delete_and_an_add(api: HttpKubeApi, server: FaultServer) -> None:
    await server.put("things", "a")
    async with Watcher(api) as watcher:
        await watcher.next()
        await server.stop()
        await server.remove("things", "a")
        await server.put("things", "a")
        server.compact("things")
        await server.start()
        assert [await watcher.next(), await watcher.next()] == [("delete", "a"), ("add", "a")]


async def test_first_list_is_tried_until_it_succeeds(api: HttpKubeApi, server: FaultServer) -> None:
    await server.put("things", "a")
    server.script("list", *[answering(lambda: status(500, "InternalError"))] * 3)
    async with Watcher(api) as watcher:
        assert await watcher.next() == ("add", "a")
    assert server.count("list") == 4


async def test_objects_look_the_same_from_a_list_and_from_a_watch(api: HttpKubeApi, server: FaultServer) -> None:
    fields = {"metadata": {"managedFields": [{"manager": "m"}]}}
    await server.put("things", "listed", **fields)
    async with Watcher(api) as watcher:
        await server.put("things", "watched", **fields)
        await watcher.take(2)
        listed, watched = watcher.informer.get("d", "listed"), watcher.informer.get("d", "watched")
    assert listed["apiVersion"] == watched["apiVersion"] == "v1"
    assert listed["kind"] == watched["kind"] == "Thing"
    assert "managedFields" not in json.dumps([listed, watched])


async def test_transform_and_index(api: HttpKubeApi, server: FaultServer) -> None:
    options = {
        "transform": lambda item: {"metadata": item["metadata"], "colour": item["spec"]["colour"]},
        "indexers": {"colour": lambda item: [item["colour"]]},
    }
    await server.put("things", "a", spec={"colour": "red", "ballast": "x"})
    async with Watcher(api, **options) as watcher:
        informer = watcher.informer
        await watcher.next()
        assert set(informer.get("d", "a")) == {"metadata", "colour"}
        assert [item["metadata"]["name"] for item in informer.by_index("colour", "red")] == ["a"]
        await server.put("things", "a", spec={"colour": "blue"})
        await watcher.next()
        assert informer.by_index("colour", "red") == []
        assert len(informer.by_index("colour", "blue")) == 1
        await server.remove("things", "a")
        await watcher.next()
        assert informer.by_index("colour", "blue") == []


async def test_failing_handler_stops_neither_the_cache_nor_the_other_handlers(
    api: HttpKubeApi, server: FaultServer
) -> None:
    watcher = Watcher(api)
    watcher.informer._handlers.insert(0, lambda old, new: 1 / 0)
    async with watcher:
        await server.put("things", "a")
        assert await watcher.next() == ("add", "a")
        await server.put("things", "b")
        assert await watcher.next() == ("add", "b")


async def test_late_handler_hears_of_everything_cached(api: HttpKubeApi, server: FaultServer) -> None:
    await server.put("things", "a")
    async with Watcher(api) as watcher:
        heard = []
        watcher.informer.add_handler(lambda old, new: heard.append((old, new["metadata"]["name"])))
        assert heard == [(None, "a")]


async def test_age_tells_how_long_the_server_was_silent(connect, server: FaultServer) -> None:
    api = await connect(watch_idle=0.2)
    async with Watcher(api) as watcher:
        await server.until_seen("watch", 1)
        server.freeze()
        server.cut()
        while watcher.informer.last_event_age() < 0.5:
            await asyncio.sleep(0.05)
        server.thaw()
        await server.put("things", "a")
        await watcher.next()
        assert watcher.informer.last_event_age() < 0.5


async def test_watches_of_one_namespace_and_selector(api: HttpKubeApi, server: FaultServer) -> None:
    informer = Informer(api, THINGS, namespace="d", label_selector="a=b", field_selector="x=y", timing=FAST)
    task = asyncio.create_task(informer.run())
    await server.until_seen("watch", 1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    for seen in server.seen:
        assert seen.path == "/api/v1/namespaces/d/things"
        assert (seen.query["labelSelector"], seen.query["fieldSelector"]) == ("a=b", "x=y")
