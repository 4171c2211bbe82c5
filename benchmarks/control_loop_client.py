"""The yardsticks: bare clients that POST the objects that the operator made. Print their CPU seconds.

No cache, no watch, no plan, no status, no retries. They run on the operator's event loop, so that they differ from it
by what they do:

- `kubernetes`: the official package's asynchronous client, as its documentation uses it; the operator stands on its
  configuration, TLS and connections;
- `aiohttp`: nothing but aiohttp and orjson, the least that a program can do with a common HTTP client.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import orjson
from kubernetes.aio import client as kubernetes_client

from finetune_operator.kube import event_loop

CONCURRENCY = 16
Requests = list[tuple[str, dict[str, Any]]]


async def post_with_kubernetes(url: str, requests: Requests) -> None:
    configuration = kubernetes_client.Configuration(host=url, api_key={"BearerToken": "bench"})
    configuration.api_key_prefix["BearerToken"] = "Bearer"
    configuration.connection_pool_maxsize = CONCURRENCY
    configuration.client_session_kwargs = {"trust_env": False}  # a look for a netrc in a thread, twice a request
    async with kubernetes_client.ApiClient(configuration) as api:
        api.user_agent = "bare"
        core = kubernetes_client.CoreV1Api(api)
        create: dict[str, Callable[..., Awaitable[object]]] = {
            "ConfigMap": core.create_namespaced_config_map,
            "Service": core.create_namespaced_service,
            "Job": kubernetes_client.BatchV1Api(api).create_namespaced_job,
            "NetworkPolicy": kubernetes_client.NetworkingV1Api(api).create_namespaced_network_policy,
            "Event": kubernetes_client.EventsV1Api(api).create_namespaced_event,
        }

        async def post(path: str, body: dict[str, Any]) -> None:
            await create[body["kind"]](body["metadata"]["namespace"], body)

        await in_parallel(post, requests)


async def post_with_aiohttp(url: str, requests: Requests) -> None:
    headers = {"Authorization": "Bearer bench", "Content-Type": "application/json", "User-Agent": "bare"}
    connector, timeout = aiohttp.TCPConnector(limit=CONCURRENCY), aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as session:

        async def post(path: str, body: dict[str, Any]) -> None:
            async with session.post(url + path, data=orjson.dumps(body)) as response:
                answer = orjson.loads(await response.read())
                if response.status != 201:
                    raise RuntimeError(f"{path}: {answer}")

        await in_parallel(post, requests)


async def in_parallel(post: Callable[[str, dict[str, Any]], Awaitable[None]], requests: Requests) -> None:
    queue = iter(requests)

    async def work() -> None:
        for path, body in queue:
            await post(path, body)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(CONCURRENCY):
            tasks.create_task(work())


CLIENTS = {"kubernetes": post_with_kubernetes, "aiohttp": post_with_aiohttp}


def main(name: str, url: str, file: str) -> None:
    with open(file) as lines:
        requests = [(path, body) for path, body in map(json.loads, lines)]
    started = time.process_time()
    event_loop.run(CLIENTS[name](url, requests))
    print(time.process_time() - started)


if __name__ == "__main__":
    main(*sys.argv[1:])
