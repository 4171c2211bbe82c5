"""Replicas of the operator as a Deployment keeps them: real processes, each with a user and a wire of its own."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp

from chaos.wall_clock import WallClock
from chaos.wire import Wire
from finetune_local.apiserver.auth.kubeconfig import kubeconfig, write_kubeconfig
from finetune_local.cluster import Cluster
from finetune_operator.cli.local_installation import NAMESPACE as INSTALLATION
from finetune_operator.cli.local_installation import RIGHTS, manifests
from finetune_operator.cli.ports import free_port
from finetune_operator.kube.resources import NAMESPACES, SERVICE_ACCOUNTS

NAMESPACE = "replicas"
EVERY_REPLICA = {
    "apiGroup": "rbac.authorization.k8s.io",
    "kind": "Group",
    "name": f"system:serviceaccounts:{NAMESPACE}",
}


@dataclass
class Replica:
    """One place of the Deployment; its process changes. Each process is a user of its own, so that audits tell them
    apart."""

    wire: Wire
    user: str = ""
    probe_port: int = 0
    progress_port: int = 0
    process: asyncio.subprocess.Process | None = None
    exit_codes: list[int] = field(default_factory=list)

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    @property
    def progress_url(self) -> str:
        """Of the receiver in the process that runs now."""
        return f"http://127.0.0.1:{self.progress_port}"

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        return self.process.pid if self.process and self.process.returncode is None else None

    async def is_ready(self) -> bool:
        """Its caches are full."""
        try:
            url = f"http://127.0.0.1:{self.probe_port}/readyz"
            async with aiohttp.ClientSession() as session, session.get(url) as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False


class Replicas:
    """`async with`: so many replicas, each started again when it ends."""

    def __init__(self, cluster: Cluster, folder: Path, options: Sequence[str], size: int = 2) -> None:
        self._cluster = cluster
        self._folder = folder
        self._options = list(options)
        self.clock = WallClock(folder)
        self.all = [Replica(Wire(cluster.url)) for _ in range(size)]
        self._numbers = count(1)
        self._keepers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Replicas":
        await self._grant()
        for replica in self.all:
            await replica.wire.start()
            self._keepers.append(asyncio.create_task(self._keep(replica)))
        return self

    async def __aexit__(self, *_: object) -> None:
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        for replica in self.all:
            await replica.wire.close()

    def of_user(self, user: str) -> Replica | None:
        """The replica whose process now has this identity."""
        return next((replica for replica in self.all if replica.user == user), None)

    async def all_ready(self) -> bool:
        """Every replica is up, with full caches."""
        return all([await replica.is_ready() for replica in self.all])

    def logs(self) -> str:
        """The ends of what the processes wrote."""
        files = sorted(self._folder.glob("*.log"))
        return "\n".join(f"== {file.name}\n{file.read_text()[-3000:]}" for file in files)

    async def _grant(self) -> None:
        """The rights that the chart gives to the operator's account, for each replica's own."""
        api = self._cluster.api
        await api.create(NAMESPACES, {"metadata": {"name": NAMESPACE}})
        for body in manifests(RIGHTS):
            bound = {"subjects": [EVERY_REPLICA]} if "subjects" in body else {}
            await api.create(RIGHTS[body["kind"]], body | bound, body["metadata"].get("namespace"))

    async def _keep(self, replica: Replica) -> None:
        """As a Deployment does: a process that ends is followed by another."""
        while True:
            name = f"replica-{next(self._numbers)}"
            config = await self._credentials(name, replica.wire)
            with (self._folder / f"{name}.log").open("wb") as log:
                replica.probe_port, replica.progress_port = free_port(), free_port()
                command = self._command(config, replica)
                replica.process = await asyncio.create_subprocess_exec(
                    *command, stderr=log, env=self.clock.environment()
                )
                replica.user = f"system:serviceaccount:{NAMESPACE}:{name}"
                try:
                    replica.exit_codes.append(await replica.process.wait())
                finally:
                    replica.signal(signal.SIGKILL)
                    await replica.process.wait()
            await asyncio.sleep(0.2)

    async def _credentials(self, name: str, wire: Wire) -> Path:
        body: dict[str, Any] = {"metadata": {"name": name, "namespace": NAMESPACE}}
        await self._cluster.api.create(SERVICE_ACCOUNTS, body, NAMESPACE)
        server = self._cluster.server
        token = await server.account_token(NAMESPACE, name)
        path = self._folder / f"{name}.kubeconfig"
        write_kubeconfig(path, kubeconfig(wire.url, ca=server.pki.read("ca.crt"), token=token))
        return path

    def _command(self, config: Path, replica: Replica) -> list[str]:
        ports = {"probe": replica.probe_port, "metrics": free_port(), "progress": replica.progress_port}
        listen = [option for name, port in ports.items() for option in (f"--{name}-port", str(port))]
        return [
            *(sys.executable, "-m", "finetune_operator.cli", "run", "--kubeconfig", str(config)),
            *("--bind-address", "127.0.0.1", *listen, "--leader-election-namespace", INSTALLATION, *self._options),
        ]
