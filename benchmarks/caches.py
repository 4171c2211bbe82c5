"""Memory of the operator with many finished FineTuneJobs in its caches, and what it takes to fill them.

    python -m benchmarks.caches 1000 5000 10000

One job is run to its end on local mode; copies of its objects, with names of their own, are then listed page by page to
the caches of a fresh process, as an API server would list them after a restart of the operator.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.report import Row, table
from benchmarks.scale import NAMESPACE, RSS_GOAL_AT_5000, Load, cluster, live, operator, watching
from finetune_operator.kinds import FINE_TUNE_JOBS, MODEL_VERSIONS
from finetune_operator.kube.client import HttpKubeApi
from finetune_operator.kube.resources import CONFIG_MAPS, JOBS, NAMESPACES, PODS

KINDS = (FINE_TUNE_JOBS, MODEL_VERSIONS, JOBS, PODS, CONFIG_MAPS)


async def originals() -> dict[str, str]:
    """The objects of one job that has run to its end."""
    with cluster(None, run_seconds=2) as kubeconfig:
        async with await HttpKubeApi.connect(str(kubeconfig), user_agent="bench") as api:
            await api.create(NAMESPACES, {"metadata": {"name": NAMESPACE}})
            async with watching(api) as watched:
                with operator(kubeconfig) as running:
                    await live(api, running, watched, Load(jobs=1, backlog=1, image="busybox"))
            return {kind.kind: json.dumps((await api.list(kind, NAMESPACE))["items"][0]) for kind in KINDS}


def rows(jobs: int, before: float, after: float, peak: float) -> list[Row]:
    label = f"{jobs:,} jobs"
    goal = (f"≤ {RSS_GOAL_AT_5000}", after <= RSS_GOAL_AT_5000) if jobs == 5000 else ("", None)
    return [
        Row(label, "RSS with empty caches", f"{before:.0f} MiB"),
        Row(label, "RSS with full caches", f"{after:.0f} MiB", *goal),
        Row(label, "RSS at most", f"{peak:.0f} MiB"),
    ]


def main(arguments: argparse.Namespace) -> int:
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "originals.json"
        source.write_text(json.dumps(asyncio.run(originals())))
        for jobs in arguments.jobs:
            command = [sys.executable, "-m", "benchmarks.full_caches", str(jobs), str(source)]
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            found += rows(jobs, *map(float, told))
    print(table(found))
    return int(any(row.ok is False for row in found))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.caches", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("jobs", nargs="*", type=int, default=[1000])
    sys.exit(main(parser.parse_args()))
