"""Everything of a cluster but its API server: informers, controllers, nodes, kubelet, names and proxies."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from finetune_local.controllers.claims import ClaimBinder, ClaimFolders
from finetune_local.controllers.deployment import DeploymentController
from finetune_local.controllers.disruption import DisruptionController
from finetune_local.controllers.endpoint_slices import EndpointSliceController
from finetune_local.controllers.garbage import GarbageCollector
from finetune_local.controllers.job import JobController
from finetune_local.controllers.namespaces import FIRST, NamespaceController, create_namespace
from finetune_local.controllers.nodes import NodeAgents, NodeLifecycle, VirtualNode
from finetune_local.controllers.owned_pods import OWNER_UID, owner_uid
from finetune_local.controllers.replica_set import ReplicaSetController
from finetune_local.controllers.scheduler import Scheduler
from finetune_local.controllers.stubbed_pods import StubbedPods
from finetune_local.knobs import Knobs
from finetune_local.kubelet.kubelet import Kubelet
from finetune_local.kubelet.pod_context import KubeletSettings
from finetune_local.kubelet.process import find_isolation
from finetune_local.kubelet.sandbox.supervisor import FULL, MOUNTS, NONE
from finetune_local.network.hosts_files import ClusterNames
from finetune_local.network.service_proxy import ServiceProxies
from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.controller import Controller
from finetune_operator.kube.events import EventRecorder
from finetune_operator.kube.informer import Informer
from finetune_operator.kube.resources import (
    DEPLOYMENTS,
    JOBS,
    LEASES,
    NAMESPACES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    POD_DISRUPTION_BUDGETS,
    PODS,
    REPLICA_SETS,
    SERVICES,
    Kind,
)

log = logging.getLogger(__name__)

Object = dict[str, Any]
PodMode = Literal["processes", "stubbed", "none"]

NOTICES = {
    MOUNTS: "pods share this machine's process table: PID namespaces are not available here",
    NONE: "pods run without mounts: user namespaces are not available here, so mount paths and names are "
    "rewritten in env, args and config files (on Ubuntu: sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0)",
}


@dataclass(frozen=True)
class ControlPlaneOptions:
    folder: Path
    server_address: tuple[str, int]
    ca_certificate: str
    kinds: Callable[[], Iterable[Kind]]
    """The kinds that the API server serves now."""
    finalize_namespace: Callable[[str], None]
    claims: Mapping[str, Path] = field(default_factory=dict)
    knobs: Knobs = field(default_factory=Knobs)
    nodes: Sequence[VirtualNode] = field(default_factory=lambda: (VirtualNode(),))
    pods: PodMode = "processes"
    isolation: str = ""
    """Empty: the best that this machine allows."""


class ControlPlane:
    """`start()`, work, `stop()`."""

    def __init__(self, api: KubeApi, options: ControlPlaneOptions) -> None:
        self.api = api
        self.options = options
        knobs = options.knobs
        self.recorder = EventRecorder(api, "local-cluster")
        self.pods = self._pod_informer()
        namespaced = {"namespace": lambda item: [item["metadata"]["namespace"]]}
        self.services = Informer(api, SERVICES, indexers=namespaced)
        self.jobs, self.deployments = Informer(api, JOBS), Informer(api, DEPLOYMENTS)
        self.replica_sets = Informer(api, REPLICA_SETS, indexers={OWNER_UID: owner_uid})
        self.nodes, self.leases = Informer(api, NODES), Informer(api, LEASES, namespace="kube-node-lease")
        self.claims = Informer(api, PERSISTENT_VOLUME_CLAIMS)
        self.namespaces, self.budgets = Informer(api, NAMESPACES), Informer(api, POD_DISRUPTION_BUDGETS)
        self.claim_folders = ClaimFolders(options.folder, options.claims)
        self.agents = NodeAgents(api, options.nodes, knobs)
        self.names = ClusterNames(self.pods, self.services, options.server_address[0], dns_delay=knobs.dns_delay)
        self.proxies = ServiceProxies(api, self.services, self.pods, self.names.pool)
        self.garbage = GarbageCollector(api, options.kinds)
        self.binder = ClaimBinder(api, self.claims, self.claim_folders)
        self.kubelet: Kubelet | None = None
        self.stubbed_pods = StubbedPods(api, self.pods, knobs) if options.pods == "stubbed" else None
        self._tasks: list[asyncio.Task[Any]] = []

    def _pod_informer(self) -> Informer:
        indexers = {
            OWNER_UID: owner_uid,
            "namespace": lambda pod: [pod["metadata"]["namespace"]],
            "jobName": _job_name,
        }
        return Informer(self.api, PODS, indexers=indexers)

    @property
    def informers(self) -> list[Informer]:
        workloads = [self.jobs, self.deployments, self.replica_sets]
        return [
            self.pods, self.services, *workloads, self.nodes, self.leases, self.claims, self.namespaces, self.budgets,
        ]  # fmt: skip

    def controllers(self) -> list[Controller]:
        knobs, api, recorder = self.options.knobs, self.api, self.recorder
        scheduler = Scheduler(api, self.pods, self.nodes, self.claims, recorder, knobs)
        options = self.options
        namespace = NamespaceController(
            api,
            self.namespaces,
            options.ca_certificate,
            options.kinds,
            self.binder.create_given,
            options.finalize_namespace,
        )
        made = [
            JobController(api, self.jobs, self.pods, recorder, knobs).controller,
            DeploymentController(api, self.deployments, self.replica_sets, recorder).controller,
            ReplicaSetController(api, self.replica_sets, self.pods, recorder).controller,
            EndpointSliceController(api, self.services, self.pods).controller,
            DisruptionController(api, self.budgets, self.pods, self.replica_sets).controller,
            scheduler.controller,
            namespace.controller,
            self.binder.controller,
        ]
        if self.stubbed_pods is not None:
            made.append(self.stubbed_pods.controller)
        return made

    async def start(self) -> None:
        """Returns when the nodes are registered and every cache is filled."""
        for name in (*FIRST, *sorted(self.binder.namespaces())):
            await create_namespace(self.api, name)
        await self.agents.register_all()
        await self.binder.prepare()
        controllers = self.controllers()
        if self.options.pods == "processes":
            await self._start_kubelet()
            controllers.append(self.proxies.controller)
            self._spawn(self.names.run())
        lifecycle = NodeLifecycle(self.api, self.nodes, self.pods, self.leases, self.recorder, self.options.knobs)
        work: list[Coroutine[Any, Any, None]] = [one.run() for one in self.informers]
        work += [one.run() for one in controllers]
        for run in (*work, self.recorder.run(), self.agents.run(), lifecycle.run(), self.garbage.run()):
            self._spawn(run)
        for informer in self.informers:
            await informer.synced.wait()

    async def _start_kubelet(self) -> None:
        isolation = self.options.isolation or await find_isolation(self.options.folder)
        if isolation != FULL:
            log.warning(NOTICES[isolation])
        settings = KubeletSettings(
            api=self.api,
            folder=self.options.folder,
            network=self.names,
            recorder=self.recorder,
            claim_folder=self.claim_folders.path,
            server_address=self.options.server_address,
            knobs=self.options.knobs,
            isolation=isolation,
            allocatable=self.agents.allocatable,
            services=lambda namespace: tuple(self.services.by_index("namespace", namespace)),
        )
        self.kubelet = Kubelet(settings, self.pods, self.agents.is_alive)

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(_report)
        self._tasks.append(task)

    async def vanish_node(self, name: str) -> None:
        """The node falls silent and its processes die; the cluster finds out by itself (see Knobs)."""
        self._check_node(name)
        self.agents.vanished.add(name)
        if self.kubelet is not None:
            await self.kubelet.vanish(name)

    async def return_node(self, name: str) -> None:
        """A node that had vanished is there again, empty; its object is made anew when it was deleted."""
        self._check_node(name)
        await self.agents.register(name)

    def _check_node(self, name: str) -> None:
        if name not in self.agents.nodes:
            raise ValueError(f"node {name!r}: must be one of {', '.join(self.agents.nodes)}")

    def evict(self, namespace: str, name: str) -> None:
        """Ends a running pod as a kubelet under memory pressure does."""
        if self.kubelet is None:
            raise RuntimeError("evict needs a cluster with pods='processes'")
        self.kubelet.evict(namespace, name)

    async def stop(self) -> None:
        """Kills every pod process; objects stay as they are."""
        if self.kubelet is not None:
            await self.kubelet.close()
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
        self.proxies.close()


def _job_name(pod: Object) -> list[str]:
    owners = pod["metadata"].get("ownerReferences") or []
    return [f"{pod['metadata']['namespace']}/{one['name']}" for one in owners if one["kind"] == "Job"]


def _report(task: "asyncio.Task[Any]") -> None:
    if not task.cancelled() and (error := task.exception()):
        log.critical("part of the local control plane failed: %s", error, exc_info=error)
