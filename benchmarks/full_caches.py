"""Fills the operator's caches with copies of one finished job, in a process that has loaded nothing else.

    python -m benchmarks.full_caches JOBS FILE       # FILE: an object of each kind, as benchmarks.caches writes it

Prints MiB before and after, and the peak.
"""

import asyncio
import json
import resource
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson

from finetune_operator.controllers.job_caches import JobCaches
from finetune_operator.operator import build_caches

FIRST = "job-00000"


class Copies:
    """The part of `KubeApi` that fills caches: lists of copies, and watches in which nothing happens."""

    def __init__(self, originals: dict[str, str], jobs: int) -> None:
        self._originals = originals
        self._jobs = jobs

    async def list(self, kind: Any, namespace: str | None = None, *, limit: int = 500, **more: Any) -> dict[str, Any]:
        if kind.kind not in self._originals:
            return {"items": [], "metadata": {"resourceVersion": "9"}}
        start = int(more.get("continue_") or 0)
        end = min(self._jobs, start + limit)
        metadata = {"resourceVersion": "9", "continue": str(end) if end < self._jobs else ""}
        await asyncio.sleep(0)
        return {"items": [self._copy(kind.kind, number) for number in range(start, end)], "metadata": metadata}

    async def watch(self, *_: Any, **__: Any) -> AsyncIterator[dict[str, Any]]:
        await asyncio.Event().wait()
        yield {}

    def _copy(self, kind: str, number: int) -> dict[str, Any]:
        item: dict[str, Any] = orjson.loads(self._originals[kind].replace(FIRST, f"job-{number:05}"))
        item["metadata"]["uid"] = f"{number:08}{item['metadata']['uid'][8:]}"
        return item


async def fill(jobs: int, source: Path) -> None:
    """Until every cache is full."""
    before = resident()
    api: Any = Copies(json.loads(source.read_text()), jobs)
    caches: JobCaches = build_caches(api, ())[0][0]
    tasks = [asyncio.create_task(informer.run()) for informer in caches.all()]
    for informer in caches.all():
        await informer.synced.wait()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{before:.0f} {resident():.0f} {peak:.0f}")
    for task in tasks:
        task.cancel()


def resident() -> float:
    """MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


if __name__ == "__main__":
    asyncio.run(fill(int(sys.argv[1]), Path(sys.argv[2])))
