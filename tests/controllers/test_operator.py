"""The whole operator as its command runs it: real processes, a lease, probes, the receiver over TLS."""

import asyncio
import contextlib
import signal
import ssl
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from click.testing import CliRunner
from prometheus_client import CollectorRegistry

from controllers.cluster_user import NAMESPACE, ClusterUser, eventually
from finetune_local.apiserver.auth.certificates import ensure_pki
from finetune_local.cluster import Cluster
from finetune_operator import operator
from finetune_operator.cli.ports import free_port
from finetune_operator.cli.run import run
from finetune_operator.kinds import MODEL_VERSIONS
from finetune_operator.kube.client import HttpKubeApi
from finetune_operator.kube.resources import DEPLOYMENTS, LEASES
from finetune_operator.operator import build_caches, build_runtime
from finetune_operator.options import Options

START_SECONDS = 60


@dataclass
class Replica:
    """One process of the operator."""

    process: asyncio.subprocess.Process
    probe_url: str
    metrics_url: str
    progress_port: int

    async def get(self, url: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return answer.status, await answer.text()

    async def ready(self) -> None:
        async with asyncio.timeout(START_SECONDS):
            while self.process.returncode is None:
                with contextlib.suppress(aiohttp.ClientError):
                    if (await self.get(f"{self.probe_url}/readyz"))[0] == 200:
                        return
                await asyncio.sleep(0.05)
        raise AssertionError(f"the operator ended with {self.process.returncode}")

    async def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return await self.process.wait()


class Replicas:
    """Starts replicas; none outlives the test."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig
        self._started: list[Replica] = []

    async def start(self, *options: str) -> Replica:
        probe, metrics, progress = free_port(), free_port(), free_port()
        command = [
            sys.executable, "-m", "finetune_operator.cli", "run", "--kubeconfig", str(self._kubeconfig),
            "--bind-address", "127.0.0.1", "--probe-port", str(probe), "--metrics-port", str(metrics),
            "--progress-port", str(progress), *options,
        ]  # fmt: skip
        process = await asyncio.create_subprocess_exec(*command)
        base = "http://127.0.0.1"
        replica = Replica(process, f"{base}:{probe}", f"{base}:{metrics}", progress)
        self._started.append(replica)
        await replica.ready()
        return replica

    async def close(self) -> None:
        for replica in self._started:
            with contextlib.suppress(ProcessLookupError):
                replica.process.kill()
            await replica.process.wait()


@pytest.fixture
async def replicas(cluster: Cluster) -> AsyncIterator[Replicas]:
    replicas = Replicas(cluster.kubeconfig)
    yield replicas
    await replicas.close()


async def holder(cluster: Cluster) -> str:
    lease = await cluster.api.get(LEASES, "finetune-operator", "default")
    return str(lease["spec"].get("holderIdentity") or "")


async def test_a_standby_takes_over_where_the_leader_stopped(
    cluster: Cluster, user: ClusterUser, replicas: Replicas
) -> None:
    leader = await replicas.start()

    async def led() -> str:
        return await holder(cluster)

    first = await eventually(led, "a leader", user.dump)
    standby = await replicas.start()
    await user.apply(publish={"modelName": "tickets"}, deploy={"name": "tickets"})
    await user.phase("Running")
    assert 'finetune_jobs{phase="Running"} 1.0' in (await leader.get(f"{leader.metrics_url}/metrics"))[1]
    assert 'finetune_jobs{phase="Running"} 0.0' in (await standby.get(f"{standby.metrics_url}/metrics"))[1]
    assert await leader.stop() == 0
    await user.finish_gang()
    await user.phase("Succeeded")
    assert await holder(cluster) not in ("", first)
    assert await standby.stop() == 0


async def test_the_chain_goes_on_to_a_serving_deployment(user: ClusterUser, replicas: Replicas) -> None:
    await replicas.start("--no-leader-elect")
    await user.apply(publish={"modelName": "tickets"}, deploy={"name": "tickets"})
    await user.phase("Running")
    await user.finish_gang()
    job = await user.phase("Succeeded")

    async def approved() -> Any:
        version = await user.api.get(MODEL_VERSIONS, job["status"]["modelVersion"], NAMESPACE)
        return (version.get("status") or {}).get("approved")

    async def served() -> bool:
        return await user.names(DEPLOYMENTS) != []

    await eventually(approved, "an approved version", user.dump)
    await eventually(served, "a Deployment", user.dump)


async def test_the_receiver_speaks_tls(tmp_path: Path, user: ClusterUser, replicas: Replicas) -> None:
    pki = ensure_pki(tmp_path)
    replica = await replicas.start(
        "--no-leader-elect",
        "--progress-tls-cert", str(pki.path("server.crt")), "--progress-tls-key", str(pki.path("server.key")),
        "--progress-url", "https://127.0.0.1",
    )  # fmt: skip
    trust = ssl.create_default_context(cadata=pki.read("ca.crt").decode())
    url = f"https://127.0.0.1:{replica.progress_port}/v1/jobs/ml/nobody/progress"
    async with aiohttp.ClientSession() as session:
        async with session.post(url, ssl=trust, headers={"Authorization": "Bearer x"}) as answer:
            assert answer.status == 404
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.post(url)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--progress-url=http://operator"], "would send their tokens in the clear"),
        (["--progress-url=https://operator"], "--tls-secret NAMESPACE/NAME and --tls-names"),
        (["--progress-url=https://operator", "--tls-secret=ns/name"], "--tls-names"),
        (["--progress-url=http://operator", "--no-progress-tls", "--progress-tls-ca=/dev/null"], "contradict"),
        (["--webhook-port=9443", "--tls-secret=ns/name", "--tls-names=x"], "also --webhook-configuration"),
        (["--webhook-port=9443"], "--webhook-port needs"),
    ],
)
def test_no_server_starts_without_a_certificate_by_an_oversight(options: list[str], complaint: str) -> None:
    result = CliRunner().invoke(run, ["--kubeconfig=/nowhere", *options])
    assert result.exit_code == 2
    assert complaint in " ".join(result.output.split())


async def test_every_controller_asks_for_the_lease_before_it_acts_and_before_each_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("POD_NAMESPACE", "default")
    monkeypatch.setattr(operator, "REGISTRY", CollectorRegistry())
    api, behind = HttpKubeApi(None, None), HttpKubeApi(None, None)  # type: ignore[arg-type] - nothing is sent
    checks: list[Any] = []
    monkeypatch.setattr(api, "fenced", lambda check: checks.append(check) or behind)
    runtime = build_runtime(api, Options())
    (check,) = checks
    assert [controller.gate for controller in runtime.controllers] == [check] * 3
    job, version, deployment = (controller._reconcile.__self__ for controller in runtime.controllers)  # type: ignore[attr-defined]
    writers = (job._carrier, version, deployment, runtime.controllers[0].prepare[-1].__self__)  # type: ignore[attr-defined]
    assert all(writer._api is behind for writer in writers)


async def test_every_cache_that_a_reconcile_reads_is_kept_up_to_date(cluster: Cluster) -> None:
    options = Options(kubeconfig=str(cluster.kubeconfig), leader_elect=False)
    async with await HttpKubeApi.connect(str(cluster.kubeconfig)) as api:
        watched = {informer.kind for informer in build_runtime(api, options).informers}
        jobs, servings = build_caches(api, ())
    assert {informer.kind for caches in (*jobs, *servings) for informer in caches.all()} <= watched
