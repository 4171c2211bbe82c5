"""What a client of the webhooks that means harm can make of the memory and the time of the operator."""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import aiohttp
import orjson
import pytest

from finetune_operator.controllers.look_ups import LookUps
from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.servers import Server
from finetune_operator.web import request_body
from finetune_operator.web.admission import LARGE_AT_ONCE, LARGE_REVIEW_BYTES, AdmissionWebhooks

REVIEW = {"apiVersion": "admission.k8s.io/v1", "request": {"uid": "1", "kind": {"kind": "Pod"}, "namespace": "ml"}}
LARGE = orjson.dumps(REVIEW | {"padding": "x" * LARGE_REVIEW_BYTES})
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server(AdmissionWebhooks([], LookUps(cast(KubeApi, None))).app(), 0, "127.0.0.1", drain_seconds=0.1)
    await server.start()
    yield server
    await server.close()


async def post(server: Server, body: bytes) -> int:
    url = f"http://127.0.0.1:{server.port}/validate"
    async with aiohttp.ClientSession() as session, session.post(url, data=body) as answer:
        return answer.status


async def begin(server: Server, length: int | None = len(LARGE), sent: bytes = b"{") -> Connection:
    """A review that is announced, and begun."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    writer.write(f"POST /validate HTTP/1.1\r\nHost: x\r\n{size}\r\n\r\n".encode() + sent)
    await writer.drain()
    return reader, writer


async def some_reviews(server: Server) -> None:
    """Enough for anything else that could have been answered to have been answered."""
    for _ in range(5):
        assert await post(server, orjson.dumps(REVIEW)) == 200


@pytest.mark.parametrize("length", [len(LARGE), None])
async def test_large_reviews_are_read_a_few_at_a_time_and_hold_up_no_small_one(
    server: Server, length: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    slow = [await begin(server, length, b"" if length is None else b"{") for _ in range(LARGE_AT_ONCE)]
    await some_reviews(server)
    waiting = asyncio.create_task(post(server, LARGE))
    await some_reviews(server)
    assert not waiting.done()
    for _, writer in slow:
        writer.close()
    assert await asyncio.wait_for(waiting, 10) == 200
    assert not caplog.records, "who hangs up fills no log"


async def test_a_review_that_does_not_come_gives_up_its_turn(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "READ_SECONDS", 0.2)
    slow = [await begin(server) for _ in range(LARGE_AT_ONCE)]
    assert await asyncio.wait_for(post(server, LARGE), 10) == 200
    for reader, writer in slow:
        assert b" 408 " in await asyncio.wait_for(reader.readline(), 10)
        writer.close()
