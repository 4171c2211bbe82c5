"""The yardstick: a bare aiohttp client that POSTs the objects that the operator made. Prints its CPU seconds.

No cache, no watch, no status, no retries: what a program needs to create these objects with a common client. It runs
on the operator's event loop, so that the two differ by what they do.
"""

import asyncio
import json
import sys
import time

import aiohttp
import orjson

from finetune_operator.kube import event_loop

CONCURRENCY = 16


async def post_all(url: str, requests: list[tuple[str, dict]]) -> None:
    timeout = aiohttp.ClientTimeout(total=30)
    headers = {"Authorization": "Bearer bench", "Content-Type": "application/json", "User-Agent": "bare"}
    queue = iter(requests)

    async def work(session: aiohttp.ClientSession) -> None:
        for path, body in queue:
            async with session.post(url + path, data=orjson.dumps(body)) as response:
                answer = orjson.loads(await response.read())
                if response.status != 201:
                    raise RuntimeError(f"{path}: {answer}")

    connector = aiohttp.TCPConnector(limit=CONCURRENCY)
    async with (
        aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as session,
        asyncio.TaskGroup() as tasks,
    ):
        for _ in range(CONCURRENCY):
            tasks.create_task(work(session))


def main(url: str, file: str) -> None:
    with open(file) as lines:
        requests = [tuple(json.loads(line)) for line in lines]
    started = time.process_time()
    event_loop.run(post_all(url, requests))  # the operator's loop
    print(time.process_time() - started)


if __name__ == "__main__":
    main(*sys.argv[1:])
