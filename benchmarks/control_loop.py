"""What the operator costs per FineTuneJob: API requests and CPU, against a client that only POSTs the same objects.

Three processes: local mode's API server without controllers or kubelet (pods never run), the operator as it is
shipped (`finetune-operator run`), and this one, which applies 1,000 FineTuneJobs.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.report import Row
from finetune_operator.cli.ports import free_port
from finetune_operator.kinds import FINE_TUNE_JOBS
from finetune_operator.kube.client import ApiError, HttpKubeApi
from finetune_operator.kube.resources import CONFIG_MAPS, EVENTS, JOBS, NAMESPACES, NETWORK_POLICIES, SERVICES, Kind

JOBS_APPLIED = int(os.environ.get("BENCH_JOBS", "1000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
"""Each with a server and an operator of its own, and the bare client right after: the median ratio counts."""
ONE_MODEL = os.environ.get("BENCH_ONE_MODEL") == "1"
"""All jobs publish to the same model, so that each is a rival of all others."""
EDITS = 5
"""Label edits per job that mean nothing to the operator."""
CREATED = (CONFIG_MAPS, NETWORK_POLICIES, SERVICES, JOBS, EVENTS)
"""Everything that the operator creates for a job."""
OPERATOR = "finetune-operator"
BARE_CLIENTS = ("kubernetes", "aiohttp")
WRITES = ("POST", "PUT", "PATCH", "DELETE")
CPU_RATIO_GOAL, REQUESTS_GOAL = 1.3, 5.0
SERVER_FIELDS = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields")
CONCURRENCY = 32


def run() -> list[Row]:
    """The rows of the control loop."""
    rounds = [asyncio.run(measure()) for _ in range(ROUNDS)]
    return rows(sorted(rounds, key=lambda one: one.ratio)[ROUNDS // 2])


@dataclass
class Bench:
    """The running server, and a client that stands for the users."""

    url: str
    api: HttpKubeApi
    folder: Path
    kubeconfig: Path

    def state(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/bench") as answer:
            state: dict[str, Any] = json.load(answer)
        return state

    def requests(self, agent: str, verbs: tuple[str, ...] | None = None) -> int:
        return sum(
            count for who, verb, count in self.state()["requests"] if who == agent and verb in (verbs or (verb,))
        )

    def verbs(self, agent: str) -> str:
        """Requests by verb; GET and WATCH are the caches' first lists and watches."""
        counts = sorted((verb, count) for who, verb, count in self.state()["requests"] if who == agent)
        return ", ".join(f"{count} {verb}" for verb, count in counts)

    async def until(self, objects: int) -> None:
        async with asyncio.timeout(300):
            while any(  # noqa: ASYNC110 - another process: nothing to await
                count < objects for count in self.state()["objects"].values()
            ):
                await asyncio.sleep(0.1)

    async def until_quiet(self, agent: str) -> None:
        """No request of `agent` for a second."""
        last = -1
        while (now := self.requests(agent)) != last:
            last = now
            await asyncio.sleep(1)


async def measure() -> "Round":
    async with serving() as bench:
        with operator(bench) as (process, probes):
            await until_ready(probes, process)
            started = await start_jobs(bench, process)
            idle = await edit_labels(bench, process)
        bare = {client: await bare_client(bench, client) for client in BARE_CLIENTS}
    return Round(started, idle, bare)


@dataclass
class Cost:
    cpu: float
    """Seconds."""
    requests: int
    writes: int = 0
    verbs: str = ""
    to_start: int = 0
    """Requests until every Job exists."""


@dataclass
class Round:
    started: Cost
    idle: Cost
    bare_cpu: dict[str, float]
    """Seconds of each bare client."""

    @property
    def ratio(self) -> float:
        return self.ratio_to("kubernetes")

    def ratio_to(self, client: str) -> float:
        return self.started.cpu / self.bare_cpu[client]


async def start_jobs(bench: Bench, process: subprocess.Popen[bytes]) -> Cost:
    before, asked = cpu_seconds(process.pid), bench.requests(OPERATOR)
    await for_each_job(lambda number: bench.api.create(FINE_TUNE_JOBS, fine_tune_job(number)))
    await bench.until(JOBS_APPLIED)
    await bench.until_quiet(OPERATOR)  # what comes after is counted too
    cpu = cpu_seconds(process.pid) - before
    requests = bench.requests(OPERATOR) - asked
    return Cost(cpu, requests, verbs=bench.verbs(OPERATOR), to_start=bench.state()["toStart"][OPERATOR])


async def edit_labels(bench: Bench, process: subprocess.Popen[bytes]) -> Cost:
    before, asked = cpu_seconds(process.pid), bench.requests(OPERATOR)
    written = bench.requests(OPERATOR, WRITES)
    for edit in range(EDITS):
        patch = {"metadata": {"labels": {"noise": str(edit)}}}
        await for_each_job(lambda number, patch=patch: bench.api.patch(FINE_TUNE_JOBS, name(number), patch, "bench"))
    await bench.until_quiet(OPERATOR)
    cpu = cpu_seconds(process.pid) - before
    return Cost(cpu, bench.requests(OPERATOR) - asked, bench.requests(OPERATOR, WRITES) - written)


async def bare_client(bench: Bench, client: str) -> float:
    """CPU seconds of a process that creates what the operator created, in a namespace of its own."""
    await bench.api.create(NAMESPACES, {"metadata": {"name": client}})
    file = bench.folder / f"{client}.jsonl"
    with file.open("w") as lines:
        for kind in CREATED:
            for item in await list_all(bench.api, kind):
                lines.write(json.dumps([kind.path(client), bare(kind, item, client)]) + "\n")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.control_loop_client", client, bench.url, str(file), stdout=subprocess.PIPE
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError("the bare client failed")
    return float(output)


def rows(median: Round) -> list[Row]:
    started, idle, ratio = median.started, median.idle, median.ratio
    requests, to_start = started.requests / JOBS_APPLIED, started.to_start / JOBS_APPLIED
    edits = JOBS_APPLIED * EDITS
    cpu = {name: f"{1000 * seconds / JOBS_APPLIED:.2f} ms" for name, seconds in median.bare_cpu.items()}
    clients = ", ".join(f"{name} {value}" for name, value in cpu.items())
    row = partial(Row, "control loop")
    return [
        row(
            "API requests per job until its Job exists",
            f"{to_start:.2f}",
            f"≤ {REQUESTS_GOAL:g}",
            to_start <= REQUESTS_GOAL,
        ),
        row("with what follows", f"{requests:.2f} ({started.verbs})"),
        row("CPU per job", f"{1000 * started.cpu / JOBS_APPLIED:.2f} ms"),
        row("CPU of the bare clients", clients),
        row("CPU against the bare kubernetes client", f"{ratio:.2f}", f"≤ {CPU_RATIO_GOAL}", ratio <= CPU_RATIO_GOAL),
        row("CPU against bare aiohttp", f"{median.ratio_to('aiohttp'):.2f}"),
        row(f"writes on {edits} label edits", str(idle.writes), "0", idle.writes == 0),
        row("CPU per label edit", f"{1000 * idle.cpu / max(edits, 1):.3f} ms"),
    ]


def fine_tune_job(number: int) -> dict[str, Any]:
    return {
        "apiVersion": FINE_TUNE_JOBS.api_version,
        "kind": FINE_TUNE_JOBS.kind,
        "metadata": {"name": name(number), "namespace": "bench"},
        "spec": {
            "model": {"source": "s3://models/minilm"},
            "task": "TextClassification",
            # Every job is another one: nothing that the operator remembers of one spec helps it with the next.
            "dataset": {
                "train": {"source": f"s3://data/{name(number)}/train.jsonl"},
                "test": {"source": "s3://data/test.jsonl"},
                "columns": {"text": "body", "label": "queue"},
            },
            "method": {"lora": {"rank": 8}},
            "training": {"epochs": 3, "batchSize": 64, "learningRate": 0.0005},
            "distributed": {"nodes": 2},
            "checkpoint": {"storage": "s3://checkpoints/a", "everySteps": 100},
            "output": {"storage": "s3://models/out"},
            "publish": {"modelName": "model" if ONE_MODEL else name(number)},
        },
    }


def name(number: int) -> str:
    return f"job-{number:04}"


async def for_each_job(call: Any) -> None:
    numbers = iter(range(JOBS_APPLIED))

    async def work() -> None:
        for number in numbers:
            await call(number)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(CONCURRENCY):
            tasks.create_task(work())


async def list_all(api: HttpKubeApi, kind: Kind) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    continue_ = ""
    while True:
        page = await api.list(kind, "bench", continue_=continue_)
        items += page["items"]
        continue_ = page["metadata"].get("continue", "")
        if not continue_:
            return items


def bare(kind: Kind, item: dict[str, Any], namespace: str) -> dict[str, Any]:
    """As the operator sent it: without what the server adds."""
    metadata = {key: value for key, value in item["metadata"].items() if key not in SERVER_FIELDS}
    body = {key: value for key, value in item.items() if key != "status"}
    if kind is JOBS:
        body["spec"].pop("selector", None)
        labels = body["spec"]["template"]["metadata"]["labels"]
        body["spec"]["template"]["metadata"]["labels"] = {k: v for k, v in labels.items() if "controller-uid" not in k}
    return {"apiVersion": kind.api_version, "kind": kind.kind, **body, "metadata": metadata | {"namespace": namespace}}


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Bench]:
    with tempfile.TemporaryDirectory() as folder:
        kubeconfig = Path(folder) / "kubeconfig"
        with child("benchmarks.control_loop_server", str(kubeconfig), stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            url = (await asyncio.to_thread(server.stdout.readline)).decode().strip()
            if not url:
                raise RuntimeError("the API server did not start")
            async with await HttpKubeApi.connect(str(kubeconfig), user_agent="user", workers=CONCURRENCY) as api:
                with contextlib.suppress(ApiError):
                    await api.create(NAMESPACES, {"metadata": {"name": "bench"}})
                yield Bench(url, api, Path(folder), kubeconfig)


@contextlib.contextmanager
def operator(bench: Bench) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The process, and the URL that says when it is ready."""
    ports = [str(free_port()) for _ in range(3)]
    options = ["run", "--kubeconfig", str(bench.kubeconfig), "--no-leader-elect", "--bind-address", "127.0.0.1"]
    options += ["--metrics-port", ports[0], "--probe-port", ports[1], "--progress-port", ports[2]]
    with (
        (bench.folder / "operator.log").open("wb") as log,
        child("finetune_operator.cli", *options, stderr=log) as process,
    ):
        try:
            yield process, f"http://127.0.0.1:{ports[1]}/readyz"
        finally:
            if process.poll() is not None:
                print((bench.folder / "operator.log").read_text()[-4000:], file=sys.stderr)


async def until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    """Its caches are full: what it cost to start is not counted."""
    async with asyncio.timeout(120):
        while process.poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(url):  # noqa: ASYNC210 - nothing else runs
                await asyncio.sleep(1)  # collects its garbage once, when the caches are full
                return
            await asyncio.sleep(0.1)
    raise RuntimeError(f"the operator exited with {process.returncode}")


@contextlib.contextmanager
def child(module: str, *arguments: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-m", module, *arguments], **options)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:  # on a busy machine
            process.kill()
            process.wait()


def cpu_seconds(pid: int) -> float:
    """User and system time so far, proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
