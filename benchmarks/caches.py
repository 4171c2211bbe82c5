"""Memory of the operator with many finished FineTuneJobs in its caches, and what it takes to fill them.

    python -m benchmarks.caches 1000 5000 10000

One job is run to its end on local mode; copies of its objects, with names of their own, are then listed page by page to
the caches of a fresh process, as an API server would list them after a restart of the operator.
"""

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson

from benchmarks.report import Row, table
from benchmarks.scale import NAMESPACE, RSS_GOAL_AT_5000, cluster, live, operator, watching
from finetune_operator.controllers.job_caches import JobCaches
from finetune_operator.kinds import FINE_TUNE_JOBS, MODEL_VERSIONS
from finetune_operator.kube.client import HttpKubeApi
from finetune_operator.kube.resources import CONFIG_MAPS, JOBS, NAMESPACES, PODS
from finetune_operator.operator import build_caches

FIRST = "job-00000"
KINDS = (FINE_TUNE_JOBS, MODEL_VERSIONS, JOBS, PODS, CONFIG_MAPS)


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


async def originals() -> dict[str, str]:
    """The objects of one job that has run to its end."""
    with cluster(None, 1) as kubeconfig:
        async with await HttpKubeApi.connect(str(kubeconfig), user_agent="bench") as api:
            await api.create(NAMESPACES, {"metadata": {"name": NAMESPACE}})
            async with watching(api) as watched:
                with operator(kubeconfig) as (process, probe):
                    await live(api, process, probe, watched, 1, "busybox")
            return {kind.kind: json.dumps((await api.list(kind, NAMESPACE))["items"][0]) for kind in KINDS}


async def fill(jobs: int, source: Path) -> None:
    """Prints MiB before and after, and the peak."""
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


def rows(jobs: int, before: float, after: float, peak: float) -> list[Row]:
    label = f"{jobs:,} jobs"
    goal = (f"≤ {RSS_GOAL_AT_5000}", after <= RSS_GOAL_AT_5000) if jobs == 5000 else ("", None)
    return [
        Row(label, "RSS with empty caches", f"{before:.0f} MiB"),
        Row(label, "RSS with full caches", f"{after:.0f} MiB", *goal),
        Row(label, "RSS at most", f"{peak:.0f} MiB"),
    ]


def main(arguments: argparse.Namespace) -> int:
    if arguments.fill:
        asyncio.run(fill(arguments.jobs[0], arguments.fill))
        return 0
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "originals.json"
        source.write_text(json.dumps(asyncio.run(originals())))
        for jobs in arguments.jobs:
            command = [sys.executable, "-m", "benchmarks.caches", str(jobs), "--fill", str(source)]
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            found += rows(jobs, *map(float, told))
    print(table(found))
    return int(any(row.ok is False for row in found))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.caches", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("jobs", nargs="*", type=int, default=[1000])
    parser.add_argument("--fill", type=Path, help=argparse.SUPPRESS)
    sys.exit(main(parser.parse_args()))
