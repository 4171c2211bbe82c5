"""What the server does with requests that are too big, too slow, too many, or abandoned."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from finetune_serving.settings import Limits
from serving.artifacts import endless_generator_artifact
from serving.in_process import Serving, serving

PATH = "/v1/completions"
LONG: dict[str, Any] = {"model": "model", "prompt": "hello", "max_tokens": 4000, "temperature": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator that never ends by itself, with room for thousands of tokens."""
    folder = tmp_path_factory.mktemp("endless")
    endless_generator_artifact(folder, max_length=5000)
    return folder


@pytest.fixture
async def server(folder: Path) -> AsyncIterator[Serving]:
    async with serving(folder, Limits(max_request_bytes=1000, max_concurrency=2)) as running:
        yield running


async def begin_stream(stack: AsyncExitStack, server: Serving) -> httpx.Response:
    """An answer whose headers have come."""
    stream = server.client.stream("POST", PATH, json=LONG | {"stream": True})
    response = await stack.enter_async_context(stream)
    assert response.status_code == 200
    return response


async def test_a_body_that_is_too_large_is_refused(server: Serving) -> None:
    response = await server.client.post(PATH, json=LONG | {"prompt": "x" * 1000})
    assert response.status_code == 413
    assert "the limit is 1000" in response.json()["error"]["message"]


async def test_so_is_one_that_does_not_tell_its_size(server: Serving) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 100

    response = await server.client.post(PATH, content=body())
    assert response.status_code == 413


async def test_too_many_requests_are_told_when_to_come_back(server: Serving) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(2):
            await begin_stream(stack, server)
        refused = await server.client.post(PATH, json=LONG)
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert (await server.client.get("/v2/health/ready")).status_code == 200, "probes always get through"
        assert await server.metric("requests_in_flight") == 2
    await server.until_metric("requests_in_flight", 0)
    short = await server.client.post(PATH, json=LONG | {"max_tokens": 1})
    assert short.status_code == 200


async def test_a_client_that_leaves_ends_its_generation(server: Serving) -> None:
    async with AsyncExitStack() as stack:
        response = await begin_stream(stack, server)
        await anext(response.aiter_bytes())
    await server.until_metric("requests_in_flight", 0)
    # The model is free: the next request is not behind thousands of tokens.
    assert (await server.client.post(PATH, json=LONG | {"max_tokens": 1})).status_code == 200
    assert await server.metric("generated_tokens_total") < LONG["max_tokens"]


async def test_so_does_one_that_waits_for_the_whole_answer(server: Serving) -> None:
    request = asyncio.create_task(server.client.post(PATH, json=LONG))
    async with asyncio.timeout(60):
        while await server.metric("generated_tokens_total") == 0:
            await asyncio.sleep(0.02)
    request.cancel()
    await server.until_metric("requests_in_flight", 0)
    assert (await server.client.post(PATH, json=LONG | {"max_tokens": 1})).status_code == 200
    assert await server.metric("generated_tokens_total") < LONG["max_tokens"]


async def test_an_answer_that_takes_too_long_is_a_gateway_timeout(folder: Path) -> None:
    async with serving(folder, Limits(request_timeout=0.5)) as server:
        response = await server.client.post(PATH, json=LONG)
        assert response.status_code == 504
        assert response.json()["error"]["code"] == "timeout"

        streamed = await server.client.post(PATH, json=LONG | {"stream": True})
        assert streamed.status_code == 200, "it had begun in time"
        *_, last = [line for line in streamed.text.splitlines() if line]
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "timeout"
        assert "[DONE]" not in streamed.text


async def test_a_body_that_does_not_come_is_a_request_timeout(folder: Path) -> None:
    async with serving(folder, Limits(request_timeout=0.5)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        await writer.drain()
        async with asyncio.timeout(60):
            answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in answer.lower()
