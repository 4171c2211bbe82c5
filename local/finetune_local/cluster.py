"""A small real Kubernetes on this machine, for as long as a program or a test needs it."""

import asyncio
import fcntl
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import urlsplit

from finetune_local.apiserver.memory_kube_api import MemoryKubeApi
from finetune_local.apiserver.server import ApiServer
from finetune_local.apiserver.status_error import StatusError
from finetune_local.apiserver.subresources.namespaces import finalize
from finetune_local.control_plane import ControlPlane, ControlPlaneOptions, PodMode
from finetune_local.controllers.nodes import VirtualNode
from finetune_local.knobs import Knobs
from finetune_local.kubelet.logs import LogReader
from finetune_operator.kube.resources import Kind

T = TypeVar("T")


class StateInUseError(RuntimeError):
    """Another cluster runs on this state folder."""


class Cluster:
    """API server, controllers and kubelet in this process; each container is a process of its own.

        async with Cluster() as cluster:
            ...  # cluster.url, cluster.kubeconfig

    No process outlives it, whatever ends it. `state_dir` keeps objects, volumes and logs between runs; without it they
    live in a temporary folder. `claims` maps "namespace/name" to folders that become PersistentVolumeClaims.
    `pods="stubbed"` runs no processes: pods become Running, and Succeeded, as `Knobs` says.
    """

    def __init__(
        self,
        port: int = 0,
        state_dir: Path | str | None = None,
        *,
        claims: Mapping[str, Path] | None = None,
        knobs: Knobs | None = None,
        nodes: Sequence[VirtualNode] | None = None,
        kubelet: bool = True,
        pods: PodMode = "processes",
        isolation: str = "",
    ) -> None:
        self.url = ""
        self.knobs = knobs or Knobs()
        self._port = port
        self._state_dir = Path(state_dir).resolve() if state_dir is not None else None
        self._claims = dict(claims or {})
        self._nodes = tuple(nodes) if nodes is not None else (VirtualNode(),)
        self._pods: PodMode = pods if kubelet else "none"
        self._isolation = isolation
        self._folder: Path | None = None
        self._lock: int | None = None
        self._server: ApiServer | None = None
        self._control_plane: ControlPlane | None = None

    @property
    def folder(self) -> Path:
        """Where volumes, logs and keys are."""
        return _started(self._folder)

    @property
    def kubeconfig(self) -> Path:
        """The admin's kubeconfig."""
        return self.folder / "kubeconfig"

    @property
    def server(self) -> ApiServer:
        return _started(self._server)

    @property
    def api(self) -> MemoryKubeApi:
        """The API without HTTP, as admin."""
        return self.server.api

    @property
    def control_plane(self) -> ControlPlane:
        return _started(self._control_plane)

    async def start(self) -> str:
        """Returns the URL when the cluster answers and its nodes are ready."""
        self._folder = self._open_folder()
        try:
            self._server = ApiServer(self._state_dir)
            self.url = await self._server.start(self._port)
            self._server.write_kubeconfig(self.kubeconfig)
            self._control_plane = self._make_control_plane(self._server)
            await self._control_plane.start()
        except BaseException:
            await self.stop()
            raise
        self._server.cluster.admission.client.resolve = self._control_plane.proxies.endpoint
        if kubelet := self._control_plane.kubelet:
            self._server.set_log_provider(LogReader(kubelet).read)
        return self.url

    def _open_folder(self) -> Path:
        if self._state_dir is None:
            return Path(tempfile.mkdtemp(prefix="finetune-local-"))
        self._state_dir.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self._state_dir / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            self._lock = None
            raise StateInUseError(f"state folder {self._state_dir} is in use by another local cluster") from error
        return self._state_dir

    def _make_control_plane(self, server: ApiServer) -> ControlPlane:
        address = urlsplit(self.url)
        options = ControlPlaneOptions(
            folder=self.folder,
            server_address=(address.hostname or "127.0.0.1", address.port or 443),
            ca_certificate=server.pki.read("ca.crt").decode(),
            kinds=lambda: served_kinds(server),
            finalize_namespace=lambda name: finalize_namespace(server, name),
            claims=self._claims,
            knobs=self.knobs,
            nodes=self._nodes,
            pods=self._pods,
            isolation=self._isolation,
        )
        control_plane = ControlPlane(server.api, options)
        server.cluster.registry.on_change.append(control_plane.garbage.changed.set)
        return control_plane

    def service_urls(self) -> dict[str, str]:
        """ "namespace/name" of each Service with a ClusterIP → its URL on 127.0.0.1."""
        urls = self.control_plane.proxies.urls()
        return {f"{namespace}/{name}": url for (namespace, name), url in sorted(urls.items())}

    async def vanish_node(self, name: str) -> None:
        """The node's processes die and it says nothing any more."""
        await self.control_plane.vanish_node(name)

    async def return_node(self, name: str) -> None:
        """The node that vanished is there again, with no pods."""
        await self.control_plane.return_node(name)

    def evict(self, namespace: str, name: str) -> None:
        """Ends a running pod as a node under memory pressure does."""
        self.control_plane.evict(namespace, name)

    async def stop(self) -> None:
        """Kills every pod process, stops serving, and removes the temporary folder."""
        if self._control_plane is not None:
            await self._control_plane.stop()
            self._control_plane = None
        if self._server is not None:
            await self._server.stop()
            self._server = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        if self._state_dir is None and self._folder is not None:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


def served_kinds(server: ApiServer) -> list[Kind]:
    """One version of each kind that can be listed, watched and deleted."""
    kinds: dict[tuple[str, str], Kind] = {}
    for resource in server.cluster.registry:
        if {"list", "watch", "delete"} <= set(resource.verbs):
            kind = Kind(resource.api_version, resource.kind, resource.plural, resource.namespaced)
            kinds.setdefault(resource.key, kind)
    return list(kinds.values())


def finalize_namespace(server: ApiServer, name: str) -> None:
    """Lets a deleted namespace go: what PUT namespaces/NAME/finalize does."""
    namespaces = server.cluster.resource("", "v1", "namespaces")
    try:
        finalize(server.cluster, namespaces, name, {})
    except StatusError as error:
        if error.code != 404:
            raise


def _started(value: T | None) -> T:
    if value is None:
        raise RuntimeError("the cluster is not running: use `async with Cluster() as cluster`")
    return value
