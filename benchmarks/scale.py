"""Many FineTuneJobs through their whole life: applied, pods, result, ModelVersion, Succeeded.

    python -m benchmarks.scale 1000 5000                      # against local mode
    python -m benchmarks.scale 1000 --kubeconfig FILE         # against any cluster with our CRDs and no operator

The operator is the shipped one in a process of its own; its requests, events and reconciliations are what its own
/metrics say, its CPU and memory what the kernel says. On a real cluster the pods really run, a shell of `--image` each.
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.control_loop import child, cpu_seconds, until_ready
from benchmarks.report import Row, table
from benchmarks.scale_cluster import LAST_WORDS
from finetune_api.names import LABEL_JOB
from finetune_operator.cli.ports import free_port
from finetune_operator.kinds import FINE_TUNE_JOBS
from finetune_operator.kube.client import ApiError, HttpKubeApi
from finetune_operator.kube.informer import Informer
from finetune_operator.kube.resources import NAMESPACES, PODS

NAMESPACE = "bench-scale"
CONCURRENCY = 32
SHORTEST_RUN = 2
REQUESTS_GOAL, RECONCILE_MS_GOAL, RSS_GOAL_AT_5000 = 8.0, 3.0, 150
PATIENCE_SECONDS_A_JOB = 2.0


@dataclass
class Watched:
    """What the benchmark sees of its jobs, through watches as any client has."""

    applied: dict[str, float] = field(default_factory=dict)
    pods: dict[str, float] = field(default_factory=dict)
    finished: dict[str, float] = field(default_factory=dict)
    phases: dict[str, str] = field(default_factory=dict)

    def on_pod(self, _: dict[str, Any] | None, new: dict[str, Any] | None) -> None:
        if new:
            self.pods.setdefault(new["metadata"]["labels"][LABEL_JOB], time.monotonic())

    def on_job(self, _: dict[str, Any] | None, new: dict[str, Any] | None) -> None:
        status = (new or {}).get("status") or {}
        if new and status.get("completionTime"):
            self.finished.setdefault(new["metadata"]["name"], time.monotonic())
            self.phases[new["metadata"]["name"]] = status["phase"]

    def latencies(self) -> list[float]:
        """Seconds from the request that applied a job until its first pod was seen."""
        return sorted(self.pods[name] - at for name, at in self.applied.items() if name in self.pods)


@dataclass(frozen=True)
class Outcome:
    """One run."""

    jobs: int
    seconds: float
    latencies: list[float]
    cpu: float
    requests: float
    reconciles: float
    events: float
    events_dropped: float
    megabytes: float
    cold_seconds: float
    cold_cpu: float
    cold_megabytes: float


@dataclass
class Operator:
    """The process under test."""

    process: subprocess.Popen[bytes]
    metrics_port: int

    @property
    def cpu(self) -> float:
        return cpu_seconds(self.process.pid)

    @property
    def megabytes(self) -> float:
        """Resident memory."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def total(self, metric: str, **labels: str) -> float:
        """Sum of a metric's samples that have these labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics") as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        samples = [sample for family in families for sample in family.samples if sample.name == metric]
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


async def measure(jobs: int, kubeconfig: Path, image: str, *, clean_up: bool) -> Outcome:
    """One run on an empty cluster; `clean_up` leaves nothing of it."""
    async with await HttpKubeApi.connect(str(kubeconfig), workers=CONCURRENCY, user_agent="bench") as api:
        with contextlib.suppress(ApiError):  # it may be there already
            await api.create(NAMESPACES, {"metadata": {"name": NAMESPACE}})
        async with watching(api) as watched:
            with operator(kubeconfig) as running:
                outcome = await live(api, running[0], running[1], watched, jobs, image)
            cold = await cold_start(kubeconfig)
        if clean_up:
            await delete_all(api, watched)
    return Outcome(jobs, *outcome, *cold)


async def live(
    api: HttpKubeApi, process: Operator, probe: str, watched: Watched, jobs: int, image: str
) -> tuple[float, list[float], float, float, float, float, float, float]:
    """From the first apply to the last success."""
    await until_ready(probe, process.process)
    cpu, requests = process.cpu, process.total("rest_client_requests_total")
    started = time.monotonic()
    await apply_all(api, watched, jobs, image)
    await until_finished(watched, jobs)
    seconds = max(watched.finished.values()) - started
    reconciles = process.total("controller_runtime_reconcile_time_seconds_count")
    await settled(process)
    return (
        seconds,
        watched.latencies(),
        process.cpu - cpu,
        process.total("rest_client_requests_total") - requests,
        reconciles,
        process.total("event_recorder_written_events_total"),
        process.total("event_recorder_dropped_events_total"),
        process.megabytes,
    )


async def apply_all(api: HttpKubeApi, watched: Watched, jobs: int, image: str) -> None:
    names = iter([f"job-{number:05}" for number in range(jobs)])

    async def work() -> None:
        for name in names:
            watched.applied[name] = time.monotonic()
            await api.create(FINE_TUNE_JOBS, fine_tune_job(name, image))

    async with asyncio.TaskGroup() as tasks:
        for _ in range(CONCURRENCY):
            tasks.create_task(work())


async def until_finished(watched: Watched, jobs: int) -> None:
    deadline = time.monotonic() + 60 + PATIENCE_SECONDS_A_JOB * jobs
    while len(watched.finished) < jobs:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{len(watched.finished)} of {jobs} jobs finished in time")
        await asyncio.sleep(0.2)
    failed = [name for name, phase in watched.phases.items() if phase != "Succeeded"]
    if failed:
        raise RuntimeError(f"{len(failed)} jobs did not succeed, e.g. {failed[0]}")


async def settled(process: Operator) -> None:
    """No request for two seconds: what comes after, such as events, is counted too."""
    last = -1.0
    while (now := process.total("rest_client_requests_total")) != last:
        last = now
        await asyncio.sleep(2)


async def cold_start(kubeconfig: Path) -> tuple[float, float, float]:
    """Seconds, seconds of CPU and MiB until a new operator has seen every object there is."""
    started = time.monotonic()
    with operator(kubeconfig) as (process, probe):
        await until_ready(probe, process.process)
        return time.monotonic() - started - 1.0, process.cpu, process.megabytes  # until_ready waits a second more


async def delete_all(api: HttpKubeApi, watched: Watched) -> None:
    for name in watched.applied:
        await api.delete(FINE_TUNE_JOBS, name, NAMESPACE)


@contextlib.asynccontextmanager
async def watching(api: HttpKubeApi) -> AsyncIterator[Watched]:
    watched = Watched()
    pods = Informer(api, PODS, namespace=NAMESPACE, label_selector=LABEL_JOB, transform=_slim)
    jobs = Informer(api, FINE_TUNE_JOBS, namespace=NAMESPACE)
    pods.add_handler(watched.on_pod)
    jobs.add_handler(watched.on_job)
    tasks = [asyncio.create_task(informer.run()) for informer in (pods, jobs)]
    for informer in (pods, jobs):
        await informer.synced.wait()
    yield watched
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _slim(pod: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": pod["metadata"]}


@contextlib.contextmanager
def operator(kubeconfig: Path) -> Iterator[tuple[Operator, str]]:
    """The process, and the URL that says when it is ready."""
    metrics, probe, progress = (free_port() for _ in range(3))
    options = ["run", "--kubeconfig", str(kubeconfig), "--no-leader-elect", "--bind-address", "127.0.0.1"]
    options += ["--metrics-port", str(metrics), "--probe-port", str(probe), "--progress-port", str(progress)]
    with tempfile.TemporaryFile() as log, child("finetune_operator.cli", *options, stderr=log) as process:
        yield Operator(process, metrics), f"http://127.0.0.1:{probe}/readyz"


@contextlib.contextmanager
def cluster(kubeconfig: str | None, jobs: int) -> Iterator[Path]:
    """The given one, or a local one of its own."""
    if kubeconfig:
        yield Path(kubeconfig)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kubeconfig"
        with child("benchmarks.scale_cluster", str(path), str(run_seconds(jobs)), stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            if not server.stdout.readline().strip():
                raise RuntimeError("the local cluster did not start")
            yield path


def run_seconds(jobs: int) -> int:
    """Of the simulated pods: long enough for all of them to run at the same time, as those of real jobs do."""
    return max(SHORTEST_RUN, jobs // 10)


def fine_tune_job(name: str, image: str) -> dict[str, Any]:
    """Of one pod, whose command is what a trainer's last act is."""
    command = ["sh", "-c", f"sleep {SHORTEST_RUN}; printf %s '{LAST_WORDS}' > /dev/termination-log"]
    return {
        "apiVersion": FINE_TUNE_JOBS.api_version,
        "kind": FINE_TUNE_JOBS.kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "model": {"source": "s3://models/minilm"},
            "task": "TextClassification",
            # Every job is another one: nothing that the operator remembers of one spec helps it with the next.
            "dataset": {"train": {"source": f"s3://data/{name}/train.jsonl"}, "split": {"test": 0.1}},
            "method": {"lora": {"rank": 8}},
            "trainerImage": image,
            "podTemplate": {"spec": {"containers": [{"name": "trainer", "command": command}]}},
            "checkpoint": {"storage": "s3://checkpoints/a", "everySteps": 100},
            "output": {"storage": "s3://models/out"},
            "publish": {"modelName": name},
        },
    }


def rows(outcome: Outcome) -> list[Row]:
    jobs, latencies = outcome.jobs, outcome.latencies
    events = outcome.events / jobs
    requests = outcome.requests / jobs - events
    reconcile = 1000 * outcome.cpu / outcome.reconciles
    p50, p99 = statistics.median(latencies), latencies[min(len(latencies) - 1, int(0.99 * len(latencies)))]
    label = f"{jobs:,} jobs"
    memory = (f"≤ {RSS_GOAL_AT_5000}", outcome.megabytes <= RSS_GOAL_AT_5000) if jobs == 5000 else ("", None)
    return [
        Row(label, "whole life cycles a second", f"{jobs / outcome.seconds:.1f} ({outcome.seconds:.0f} s)"),
        Row(label, "apply to pods, p50 / p99", f"{p50:.2f} s / {p99:.2f} s"),
        Row(label, "API requests per job", f"{requests:.2f}", f"≤ {REQUESTS_GOAL:g}", requests <= REQUESTS_GOAL),
        Row(label, "events written per job, on top", f"{events:.2f}"),
        Row(label, "CPU per job", f"{1000 * outcome.cpu / jobs:.1f} ms ({outcome.reconciles / jobs:.1f} reconciles)"),
        Row(
            label,
            "CPU per reconcile",
            f"{reconcile:.2f} ms",
            f"≤ {RECONCILE_MS_GOAL:g}",
            reconcile <= RECONCILE_MS_GOAL,
        ),
        Row(label, "RSS at the end", f"{outcome.megabytes:.0f} MiB", *memory),
        Row(
            label,
            "cold start with all present",
            f"{outcome.cold_seconds:.1f} s, CPU {outcome.cold_cpu:.1f} s, {outcome.cold_megabytes:.0f} MiB",
        ),
        Row(label, "events dropped", f"{outcome.events_dropped:.0f}"),
    ]


def main(arguments: argparse.Namespace) -> int:
    found: list[Row] = []
    for jobs in arguments.jobs:
        print(f"running {jobs} jobs ...", file=sys.stderr, flush=True)
        with cluster(arguments.kubeconfig, jobs) as kubeconfig:
            found += rows(asyncio.run(measure(jobs, kubeconfig, arguments.image, clean_up=bool(arguments.kubeconfig))))
    print(table(found))
    return int(any(row.ok is False for row in found))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("jobs", nargs="*", type=int, default=[1000])
    parser.add_argument("--kubeconfig", help="A cluster with our CRDs and no operator; default: local mode.")
    parser.add_argument("--image", default="busybox:1.36", help="With a shell; for the pods of a real cluster.")
    sys.exit(main(parser.parse_args()))
