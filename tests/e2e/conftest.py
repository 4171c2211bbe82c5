"""A cluster with the operator: local mode by default, any other by --kubeconfig."""

import asyncio
import contextlib
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from e2e.user import CLAIM, User
from finetune_api.names import GROUP
from finetune_operator.cli.ports import free_port
from finetune_operator.kube.client import HttpKubeApi
from finetune_operator.kube.resources import NAMESPACES, VALIDATING_WEBHOOK_CONFIGURATIONS

START_SECONDS = 90
PREPARE_SCRIPT = Path(__file__).with_name("prepare.py")


@dataclass(frozen=True)
class Installation:
    """A cluster that has the operator; `process` is local mode's, None for any other."""

    kubeconfig: str
    process: asyncio.subprocess.Process | None = None
    metrics_url: str = ""
    """Of the operator in local mode."""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def installation(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Installation]:
    if kubeconfig := request.config.getoption("--kubeconfig"):
        yield Installation(kubeconfig)
        return
    async with local_mode(tmp_path_factory.mktemp("local-mode")) as installed:
        yield installed


@contextlib.asynccontextmanager
async def local_mode(folder: Path, *options: str) -> AsyncIterator[Installation]:
    """Local mode as its command runs it: the operator has the chart's rights, and may want no others."""
    kubeconfig, log_file = str(folder / "kubeconfig"), folder / "log"
    executable = str(Path(sys.executable).with_name("finetune-operator"))
    metrics_port = free_port()
    command = [executable, "local", "--kubeconfig", kubeconfig, "--metrics-port", str(metrics_port), *options]
    with log_file.open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=log)
    try:
        assert process.stdout
        line = await asyncio.wait_for(process.stdout.readline(), START_SECONDS)
        assert line.startswith(b"ready "), log_file.read_text()[-4000:]
        yield Installation(kubeconfig, process, f"http://127.0.0.1:{metrics_port}/metrics")
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await process.wait()
    refused = [line for line in log_file.read_text().splitlines() if "forbidden" in line.lower()]
    assert refused == [], "the operator lacks a right"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def user(installation: Installation, request: pytest.FixtureRequest) -> AsyncIterator[User]:
    """A user with a namespace of their own, in which the claim `e2e` holds a tiny model and data."""
    api = await HttpKubeApi.connect(installation.kubeconfig)
    namespace = f"e2e-{secrets.token_hex(3)}"
    await api.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    hooks = (await api.list(VALIDATING_WEBHOOK_CONFIGURATIONS))["items"]
    judged = any(one["name"].endswith(f".{GROUP}") for item in hooks for one in item.get("webhooks", ()))
    somebody = User(api, namespace, request.config.getoption("--trainer-image"), judged)
    await prepare(somebody)
    yield somebody
    await api.delete(NAMESPACES, namespace)
    await api.close()


async def prepare(user: User) -> None:
    """The tiny model and the data that the jobs of the tests name."""
    await user.apply(claim())
    await user.run("prepare", PREPARE_SCRIPT.read_text())


def claim() -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": CLAIM},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
    }
