"""What the parts of the kubelet that run one pod share."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from finetune_local.knobs import Knobs
from finetune_local.kubelet.sandbox.supervisor import NONE
from finetune_operator.kube.client import KubeApi

Object = dict[str, Any]


class Recorder(Protocol):
    def record(
        self, regarding: Object, type: Literal["Normal", "Warning"], reason: str, note: str, action: str = ""
    ) -> None: ...


class PodNetwork(Protocol):
    """Gives pods addresses and names."""

    def assign(self, uid: str, name: str = "") -> str:
        """The pod's address, the same one for as long as it is not released; `name` is its DNS name if it has one."""

    def reserve(self, name: str) -> str:
        """The address of the pod with this DNS name (`host.subdomain.namespace`), also when it is yet to come."""

    def release(self, uid: str) -> None: ...

    def hosts_file(self, pod: Object, ip: str, path: Path) -> None:
        """Writes the pod's /etc/hosts and keeps it up to date until `release`."""


@dataclass(frozen=True)
class KubeletSettings:
    """What holds for every pod of a kubelet."""

    api: KubeApi
    folder: Path
    network: PodNetwork
    recorder: Recorder
    claim_folder: Callable[[str, str], Path]
    server_address: tuple[str, int]
    """Host and port of the API server, as pods see them."""
    knobs: Knobs = field(default_factory=Knobs)
    isolation: str = NONE
    allocatable: Callable[[str], dict[str, str]] = lambda node: {}
    services: Callable[[str], tuple[Object, ...]] = lambda namespace: ()

    def pod_folder(self, uid: str) -> Path:
        return self.folder / "pods" / uid

    def log_file(self, uid: str, container: str, restart: int) -> Path:
        return self.pod_folder(uid) / "containers" / container / f"{restart}.log"
