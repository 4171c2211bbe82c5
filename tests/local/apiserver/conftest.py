"""An API server of its own for each test, and a client for it."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from finetune_local.apiserver import ApiServer
from local.apiserver.http_client import Client


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    server = ApiServer(tls=False)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def client(server: ApiServer) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession(base_url=server.url) as session:
        yield Client(session, server.admin_token, [])
