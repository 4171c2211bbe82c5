"""Many FineTuneJobs through their whole life: applied, pods, result, ModelVersion, Succeeded.

    python -m benchmarks.scale 1000 5000                      # against local mode
    python -m benchmarks.scale 1000 --kubeconfig FILE         # against any cluster with our CRDs and no operator

The operator is the shipped one in a process of its own; its requests, events and reconciliations are what its own
/metrics say, its CPU and memory what the kernel says. On a real cluster the pods really run, a shell of `--image` each.

At most `--backlog` jobs wait for their pods at any time: the next ones are applied as pods appear. So every size is
measured at the same load, and pods run longer than the operator lags behind: it sees each of them run, and is not
spared the requests of that. A run may take as long as it likes, but something must happen every few minutes.
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
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

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
SEEN = ("phase", "completionTime")
BACKLOG, RUN_SECONDS = 200, 60
"""Pods run for longer than the operator needs for a backlog."""
REQUESTS_GOAL, RECONCILE_MS_GOAL, RSS_GOAL_AT_5000 = 8.0, 3.0, 150
PATIENCE_SECONDS = 300.0
"""Without anything happening."""
TELL_SECONDS = 15.0
TRIES = 10


@dataclass
class Watched:
    """What the benchmark sees of its jobs, through watches as any client has."""

    applied: dict[str, float] = field(default_factory=dict)
    pods: dict[str, float] = field(default_factory=dict)
    finished: dict[str, float] = field(default_factory=dict)
    phases: dict[str, str] = field(default_factory=dict)
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    async def move(self) -> None:
        """Until something has happened. Raises when nothing does."""
        self.moved.clear()
        try:
            await asyncio.wait_for(self.moved.wait(), PATIENCE_SECONDS)
        except TimeoutError:
            raise RuntimeError(f"nothing happened for {PATIENCE_SECONDS:.0f} s: {self}") from None

    def __str__(self) -> str:
        return f"{len(self.applied)} applied, {len(self.pods)} with pods, {len(self.finished)} finished"

    def on_pod(self, _: dict[str, Any] | None, new: dict[str, Any] | None) -> None:
        if new:
            self.pods.setdefault(new["metadata"]["labels"][LABEL_JOB], time.monotonic())
            self.moved.set()

    def on_job(self, _: dict[str, Any] | None, new: dict[str, Any] | None) -> None:
        status = (new or {}).get("status") or {}
        if new and status.get("completionTime"):
            self.finished.setdefault(new["metadata"]["name"], time.monotonic())
            self.phases[new["metadata"]["name"]] = status["phase"]
            self.moved.set()

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
    requests: dict[str, float]
    """By method."""
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
        return sum(one.value for one in self._samples(metric) if labels.items() <= one.labels.items())

    def requests(self) -> Counter[str]:
        """By method."""
        found: Counter[str] = Counter()
        for one in self._samples("rest_client_requests_total"):
            found[one.labels["method"]] += int(one.value)
        return found

    def _samples(self, metric: str) -> list[Sample]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics") as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        return [sample for family in families for sample in family.samples if sample.name == metric]


async def measure(jobs: int, kubeconfig: Path, image: str, *, backlog: int, clean_up: bool) -> Outcome:
    """One run on an empty cluster; `clean_up` leaves nothing of it."""
    async with await HttpKubeApi.connect(str(kubeconfig), workers=CONCURRENCY, user_agent="bench") as api:
        with contextlib.suppress(ApiError):  # it may be there already
            await api.create(NAMESPACES, {"metadata": {"name": NAMESPACE}})
        async with watching(api) as watched:
            with operator(kubeconfig) as running:
                outcome = await live(api, running, watched, Load(jobs, backlog, image))
            cold = await cold_start(kubeconfig)
        if clean_up:
            await delete_all(api, watched)
    return Outcome(jobs, *outcome, *cold)


@dataclass(frozen=True)
class Load:
    """What is applied."""

    jobs: int
    backlog: int
    image: str


async def live(
    api: HttpKubeApi, running: tuple[Operator, str], watched: Watched, load: Load
) -> tuple[float, list[float], float, dict[str, float], float, float, float, float]:
    """From the first apply to the last success."""
    process, probe = running
    await until_ready(probe, process.process)
    cpu, requests = process.cpu, process.requests()
    started = time.monotonic()
    async with telling(watched):
        await apply_all(api, watched, load)
        await until_finished(watched, load.jobs)
    seconds = max(watched.finished.values()) - started
    reconciles = process.total("controller_runtime_reconcile_time_seconds_count")
    await settled(process)
    return (
        seconds,
        watched.latencies(),
        process.cpu - cpu,
        dict(process.requests() - requests),
        reconciles,
        process.total("event_recorder_written_events_total"),
        process.total("event_recorder_dropped_events_total"),
        process.megabytes,
    )


async def apply_all(api: HttpKubeApi, watched: Watched, load: Load) -> None:
    names = iter([f"job-{number:05}" for number in range(load.jobs)])

    async def work() -> None:
        for name in names:
            while load.backlog and len(watched.applied) - len(watched.pods) >= load.backlog:
                await watched.move()
            watched.applied[name] = time.monotonic()
            await create(api, fine_tune_job(name, load.image))

    async with asyncio.TaskGroup() as tasks:
        for _ in range(CONCURRENCY):
            tasks.create_task(work())


async def create(api: HttpKubeApi, job: dict[str, Any]) -> None:
    """Again where nobody answered: an API server of one process may be silent for half a minute on a busy machine."""
    for left in reversed(range(TRIES)):
        try:
            await api.create(FINE_TUNE_JOBS, job)
            return
        except ApiError as error:
            if error.already_exists:  # so it was taken
                return
            if not error.unreachable or not left:
                raise
        await asyncio.sleep(1)


async def until_finished(watched: Watched, jobs: int) -> None:
    while len(watched.finished) < jobs:
        await watched.move()
    failed = [name for name, phase in watched.phases.items() if phase != "Succeeded"]
    if failed:
        raise RuntimeError(f"{len(failed)} jobs did not succeed, e.g. {failed[0]}")


@contextlib.asynccontextmanager
async def telling(watched: Watched) -> AsyncIterator[None]:
    """Now and then, on stderr, how far it is."""

    async def tell() -> None:
        while True:
            await asyncio.sleep(TELL_SECONDS)
            print(f"  {watched}", file=sys.stderr, flush=True)

    task = asyncio.create_task(tell())
    try:
        yield
    finally:
        task.cancel()


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
    jobs = Informer(api, FINE_TUNE_JOBS, namespace=NAMESPACE, transform=_slim)
    pods.add_handler(watched.on_pod)
    jobs.add_handler(watched.on_job)
    tasks = [asyncio.create_task(informer.run()) for informer in (pods, jobs)]
    for informer in (pods, jobs):
        await informer.synced.wait()
    yield watched
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _slim(item: dict[str, Any]) -> dict[str, Any]:
    status = item.get("status") or {}
    return {"metadata": item["metadata"], "status": {name: status[name] for name in SEEN if name in status}}


@contextlib.contextmanager
def operator(kubeconfig: Path) -> Iterator[tuple[Operator, str]]:
    """The process, and the URL that says when it is ready."""
    metrics, probe, progress = (free_port() for _ in range(3))
    options = ["run", "--kubeconfig", str(kubeconfig), "--no-leader-elect", "--bind-address", "127.0.0.1"]
    options += ["--metrics-port", str(metrics), "--probe-port", str(probe), "--progress-port", str(progress)]
    with tempfile.TemporaryFile() as log, child("finetune_operator.cli", *options, stderr=log) as process:
        yield Operator(process, metrics), f"http://127.0.0.1:{probe}/readyz"


@contextlib.contextmanager
def cluster(kubeconfig: str | None, run_seconds: int) -> Iterator[Path]:
    """The given one, or a local one of its own."""
    if kubeconfig:
        yield Path(kubeconfig)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kubeconfig"
        with child("benchmarks.scale_cluster", str(path), str(run_seconds), stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            if not server.stdout.readline().strip():
                raise RuntimeError("the local cluster did not start")
            yield path


def fine_tune_job(name: str, image: str) -> dict[str, Any]:
    """Of one pod, whose command is what a trainer's last act is."""
    command = ["sh", "-c", f"sleep {RUN_SECONDS}; printf %s '{LAST_WORDS}' > /dev/termination-log"]
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
    # Lists and watches are the same however many jobs there are: the caches', opened again every few minutes.
    writes = {method: count for method, count in outcome.requests.items() if method != "GET"}
    requests = (sum(writes.values()) - outcome.events) / jobs
    verbs = ", ".join(f"{count / jobs:.2f} {method}" for method, count in sorted(writes.items()))
    reads = f"{outcome.requests.get('GET', 0):.0f}"
    reconcile = 1000 * outcome.cpu / outcome.reconciles
    p50, p99 = statistics.median(latencies), latencies[min(len(latencies) - 1, int(0.99 * len(latencies)))]
    label = f"{jobs:,} jobs"
    memory = (f"≤ {RSS_GOAL_AT_5000}", outcome.megabytes <= RSS_GOAL_AT_5000) if jobs == 5000 else ("", None)
    return [
        Row(label, "whole life cycles a second", f"{jobs / outcome.seconds:.1f} ({outcome.seconds:.0f} s)"),
        Row(label, "apply to pods, p50 / p99", f"{p50:.2f} s / {p99:.2f} s"),
        Row(
            label,
            "API requests per job, less events",
            f"{requests:.2f}",
            f"≤ {REQUESTS_GOAL:g}",
            round(requests, 1) <= REQUESTS_GOAL,
        ),
        Row(label, "with events, by method", verbs),
        Row(label, "lists, watches and gets of the whole run", reads),
        Row(label, "events written per job", f"{events:.2f}"),
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
        run = partial(measure, jobs, image=arguments.image, backlog=arguments.backlog)
        with cluster(arguments.kubeconfig, arguments.run_seconds) as kubeconfig:
            found += rows(asyncio.run(run(kubeconfig, clean_up=bool(arguments.kubeconfig))))
    print(table(found))
    return int(any(row.ok is False for row in found))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("jobs", nargs="*", type=int, default=[1000])
    parser.add_argument("--kubeconfig", help="A cluster with our CRDs and no operator; default: local mode.")
    parser.add_argument("--image", default="busybox:1.36", help="With a shell; for the pods of a real cluster.")
    parser.add_argument("--backlog", type=int, default=BACKLOG, help="Jobs that wait for pods; 0: all at once.")
    parser.add_argument("--run-seconds", type=int, default=RUN_SECONDS, help="How long simulated pods run.")
    sys.exit(main(parser.parse_args()))
