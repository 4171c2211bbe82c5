"""The server inside the test's own event loop: real sockets, no second import of PyTorch."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from finetune_operator.cli.ports import free_port
from finetune_serving.artifact import open_artifact
from finetune_serving.loading import LoadedModel, load
from finetune_serving.server import serve
from finetune_serving.settings import Limits, ModelSource, Settings, Shutdown

START_SECONDS = 120


@dataclass
class Serving:
    """A running server."""

    client: httpx.AsyncClient
    task: "asyncio.Task[int]"
    port: int

    async def metric(self, name: str) -> float:
        """The value of a metric without labels."""
        text = (await self.client.get("/metrics")).text
        line = next(line for line in text.splitlines() if line.startswith(f"finetune_serving_{name} "))
        return float(line.split()[1])

    async def until_metric(self, name: str, value: float) -> None:
        """Wait until a metric has a value."""
        async with asyncio.timeout(START_SECONDS):
            while await self.metric(name) != value:
                await asyncio.sleep(0.02)


def load_source(source: ModelSource) -> LoadedModel:
    """Everything that the server does before it answers."""
    return load(source, open_artifact(source))


@asynccontextmanager
async def serving(
    folder: Path,
    limits: Limits | None = None,
    shutdown: Shutdown | None = None,
    *,
    ready: bool = True,
    **source: str,
) -> AsyncIterator[Serving]:
    """Serve `folder` until the block ends."""
    port = free_port()
    settings = Settings(
        model=replace(ModelSource(uri=str(folder), scratch=folder / "scratch"), **source),
        host="127.0.0.1",
        port=port,
        limits=limits or Limits(),
        shutdown=shutdown or Shutdown(drain_delay=0, grace_period=20),
    )
    task = asyncio.create_task(serve(settings))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        try:
            await _wait(client, task, 200 if ready else 503)
            yield Serving(client, task, port)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _wait(client: httpx.AsyncClient, task: "asyncio.Task[int]", status: int) -> None:
    async with asyncio.timeout(START_SECONDS):
        while not task.done():
            try:
                if (await client.get("/v2/health/ready")).status_code == status:
                    return
            except httpx.ConnectError:
                pass
            await asyncio.sleep(0.02)
    raise AssertionError(f"the server ended with {task.result()}")
