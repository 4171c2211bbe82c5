"""Local mode's API server alone: no controllers and no kubelet, so pods never run. Counts requests by client."""

import asyncio
import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from aiohttp import web

from finetune_api.crds import custom_resource_definitions
from finetune_local.apiserver.cluster import Cluster
from finetune_local.apiserver.http.application import Application
from finetune_operator.kube.client import HttpKubeApi
from finetune_operator.kube.resources import CUSTOM_RESOURCE_DEFINITIONS

JOB = re.compile(rb"job-\d{4}")
"""Name of a FineTuneJob of the benchmark."""


class CountingServer:
    """`GET /bench` tells how many objects there are and who asked for what."""

    def __init__(self) -> None:
        self._cluster = Cluster()
        self._application = Application(self._cluster)
        self._requests: Counter[tuple[str, str]] = Counter()
        self._to_start: Counter[str] = Counter()
        """Requests for each job until its Job exists, by client."""
        self._started: set[bytes] = set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/bench":
            return web.json_response(self._state())
        verb = "WATCH" if request.query.get("watch") == "true" else request.method
        agent = request.headers.get("User-Agent", "")
        self._requests[agent, verb] += 1
        job = JOB.search(request.path.encode()) or JOB.search(await request.read())
        if job and job[0] not in self._started:
            self._to_start[agent] += 1
        answer = await self._application.handle(request)
        if job and verb == "POST" and request.path.endswith("/jobs"):
            self._started.add(job[0])  # its other objects were created before
        return answer

    def _state(self) -> dict[str, Any]:
        store = self._cluster.store
        groups = {"jobs": ("batch", "v1"), "services": ("", "v1"), "configmaps": ("", "v1")}
        counts = {
            plural: store.collection(self._cluster.resource(*group, plural).key).count()
            for plural, group in groups.items()
        }
        requests = [[agent, verb, count] for (agent, verb), count in self._requests.items()]
        return {"objects": counts, "requests": requests, "toStart": dict(self._to_start)}


def write_kubeconfig(path: Path, url: str) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "bench",
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
        "clusters": [{"name": "bench", "cluster": {"server": url}}],
        "users": [{"name": "bench", "user": {"token": "bench"}}],
    }
    path.write_text(json.dumps(config))


async def main(kubeconfig: Path) -> None:
    app = web.Application(client_max_size=2**24)
    app.router.add_route("*", "/{path:.*}", CountingServer().handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    write_kubeconfig(kubeconfig, url)
    async with await HttpKubeApi.connect(str(kubeconfig), user_agent="setup") as api:
        for definition in custom_resource_definitions():
            await api.create(CUSTOM_RESOURCE_DEFINITIONS, definition)
    print(url, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
