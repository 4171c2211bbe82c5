"""Watches: history, 410, bookmarks, initial events, selectors, faults."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
import pytest

from finetune_local.apiserver import ApiServer
from local.apiserver.http_client import CONFIG_MAPS, Client
from local.apiserver.objects import config_map


class Stream:
    """The events of one open watch."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self) -> dict[str, Any]:
        line = await asyncio.wait_for(self.response.content.readline(), 10)
        return orjson.loads(line) if line else {"type": "CLOSED"}


@asynccontextmanager
async def watching(client: Client, path: str = CONFIG_MAPS, **params: str) -> AsyncIterator[Stream]:
    headers = {"Authorization": f"Bearer {client.token}"}
    async with client.session.get(path, params={"watch": "true", **params}, headers=headers) as response:
        assert response.status == 200
        yield Stream(response)


async def revision(client: Client) -> str:
    return str((await client.get(CONFIG_MAPS))[1]["metadata"]["resourceVersion"])


async def test_a_watch_replays_what_happened_since_its_version(client: Client) -> None:
    start = await revision(client)
    await client.post(CONFIG_MAPS, config_map("a", n="1"))
    await client.patch(f"{CONFIG_MAPS}/a", {"data": {"n": "2"}})
    await client.delete(f"{CONFIG_MAPS}/a")
    async with watching(client, resourceVersion=start) as stream:
        events = [await stream.next() for _ in range(3)]
    assert [event["type"] for event in events] == ["ADDED", "MODIFIED", "DELETED"]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert versions == sorted(set(versions))


async def test_a_watch_without_a_version_begins_with_what_is_there(client: Client) -> None:
    await client.post(CONFIG_MAPS, config_map("a"))
    async with watching(client) as stream:
        assert (await stream.next())["type"] == "ADDED"
        await client.post(CONFIG_MAPS, config_map("b"))
        assert (await stream.next())["object"]["metadata"]["name"] == "b"


async def test_a_compacted_version_is_gone(client: Client, server: ApiServer) -> None:
    start = await revision(client)
    await client.post(CONFIG_MAPS, config_map("a"))
    server.cluster.compact()
    async with watching(client, resourceVersion=start) as stream:
        event = await stream.next()
        assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")
        assert (await stream.next())["type"] == "CLOSED"


async def test_an_open_watch_survives_compaction(client: Client, server: ApiServer) -> None:
    async with watching(client, resourceVersion=await revision(client)) as stream:
        await client.post(CONFIG_MAPS, config_map("a"))
        assert (await stream.next())["type"] == "ADDED"
        server.cluster.compact()
        await client.post(CONFIG_MAPS, config_map("b"))
        assert (await stream.next())["object"]["metadata"]["name"] == "b"


async def test_a_future_version_is_too_large(client: Client) -> None:
    status, body = await client.get(CONFIG_MAPS, resourceVersion="999999999")
    assert (status, body["reason"]) == (504, "Timeout")
    assert body["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


async def test_initial_events_end_with_a_marked_bookmark(client: Client) -> None:
    await client.post(CONFIG_MAPS, config_map("a"))
    params = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    async with watching(client, **params) as stream:
        assert (await stream.next())["type"] == "ADDED"
        bookmark = await stream.next()
    assert bookmark["type"] == "BOOKMARK"
    assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_bookmarks_come_when_nothing_happens(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune_local.apiserver.watching.BOOKMARK_SECONDS", 0.05)
    async with watching(client, resourceVersion=await revision(client), allowWatchBookmarks="true") as stream:
        await client.post("/api/v1/namespaces/default/secrets", {"metadata": {"name": "elsewhere"}})
        while (event := await stream.next())["object"]["metadata"]["resourceVersion"] != await revision(client):
            assert event["type"] == "BOOKMARK"
    assert event["type"] == "BOOKMARK"


async def test_objects_enter_and_leave_a_selector(client: Client) -> None:
    labelled = config_map("a") | {"metadata": {"name": "a", "labels": {"in": "no"}}}
    await client.post(CONFIG_MAPS, labelled)
    async with watching(client, resourceVersion=await revision(client), labelSelector="in=yes") as stream:
        for value in ("yes", "yes", "no"):
            await client.patch(f"{CONFIG_MAPS}/a", {"metadata": {"labels": {"in": value}}, "data": {"n": value}})
        await client.patch(f"{CONFIG_MAPS}/a", {"metadata": {"labels": {"in": "yes"}}})
        assert [(await stream.next())["type"] for _ in range(3)] == ["ADDED", "DELETED", "ADDED"]


async def test_a_watch_of_a_namespace_sees_only_its_objects(client: Client) -> None:
    async with watching(client, resourceVersion=await revision(client)) as stream:
        await client.post("/api/v1/namespaces/kube-system/configmaps", config_map("other"))
        await client.post(CONFIG_MAPS, config_map("own"))
        assert (await stream.next())["object"]["metadata"]["name"] == "own"


async def test_a_watch_ends_after_its_timeout(client: Client) -> None:
    async with watching(client, resourceVersion=await revision(client), timeoutSeconds="1") as stream:
        assert (await stream.next())["type"] == "CLOSED"


async def test_a_cut_watch_looks_like_a_lost_connection(client: Client, server: ApiServer) -> None:
    async with watching(client, resourceVersion=await revision(client)) as stream:
        await client.post(CONFIG_MAPS, config_map("a"))
        await stream.next()
        server.cluster.cut_watches()
        with pytest.raises(aiohttp.ClientPayloadError):
            await stream.next()


async def test_a_lagging_watch_learns_that_history_has_passed_it(client: Client, server: ApiServer) -> None:
    start = await revision(client)
    async with watching(client, resourceVersion=start) as stream:
        # All within one step of the event loop: the watch cannot read in between.
        await asyncio.sleep(0)
        collection = server.cluster.store.collection(("", "configmaps"))
        for number in range(3):
            body = config_map(f"c{number}") | {"metadata": {"name": f"c{number}", "namespace": "default", "uid": "u"}}
            server.cluster.store.put(("", "configmaps"), "default", f"c{number}", body)
        collection.compact(server.cluster.store.revision)
        event = await stream.next()
        assert (event["type"], event["object"]["code"]) == ("ERROR", 410)


async def test_throttled_requests_say_when_to_come_back(client: Client, server: ApiServer) -> None:
    server.cluster.faults.throttle_next = 1
    async with client.session.get(CONFIG_MAPS, headers={"Authorization": f"Bearer {client.token}"}) as response:
        assert (response.status, response.headers["Retry-After"]) == (429, "1")
        assert (await response.json())["reason"] == "TooManyRequests"
    assert (await client.get(CONFIG_MAPS))[0] == 200


async def test_a_frozen_server_answers_after_the_thaw(client: Client, server: ApiServer) -> None:
    server.cluster.faults.freeze()
    waiting = asyncio.create_task(client.get(CONFIG_MAPS))
    done, _ = await asyncio.wait([waiting], timeout=0.3)
    assert not done
    server.cluster.faults.thaw()
    assert (await waiting)[0] == 200
