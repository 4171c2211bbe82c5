import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from finetune_operator.kube.client import HttpKubeApi
from finetune_operator.kube.credentials import load_credentials
from kube.fault_server import FaultServer


def write_kubeconfig(path: Path, url: str, user: dict[str, Any] | None = None) -> Path:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": user if user is not None else {"token": "secret"}}],
    }
    path.write_text(json.dumps(config))
    return path


@pytest.fixture
async def server() -> AsyncIterator[FaultServer]:
    server = FaultServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def connect(server: FaultServer, tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[HttpKubeApi]]]:
    """`await connect(watch_idle=0.3)`: a client of the fault server, closed after the test."""
    clients: list[HttpKubeApi] = []

    async def make(user: dict[str, Any] | None = None, **options: Any) -> HttpKubeApi:
        path = write_kubeconfig(tmp_path / f"kubeconfig-{len(clients)}", server.url, user)
        refresh = options.pop("refresh_seconds", 60.0)
        credentials = await load_credentials(str(path), refresh_seconds=refresh)
        clients.append(HttpKubeApi.with_credentials(credentials, **options))
        return clients[-1]

    yield make
    await asyncio.gather(*(client.close() for client in clients))


@pytest.fixture
async def api(connect: Callable[..., Awaitable[HttpKubeApi]]) -> HttpKubeApi:
    return await connect()
