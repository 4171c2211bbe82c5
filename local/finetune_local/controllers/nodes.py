"""Virtual nodes: their objects, their heartbeats, and what the cluster does about a node that fell silent."""

import asyncio
import math
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from finetune_local import timestamps
from finetune_local.controllers.conditions import find, with_condition
from finetune_local.knobs import Knobs
from finetune_local.kubelet.pod_context import Recorder
from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.errors import ApiError
from finetune_operator.kube.informer import Informer
from finetune_operator.kube.resources import LEASES, NODES, PODS

Object = dict[str, Any]

UNREACHABLE_TAINT = "node.kubernetes.io/unreachable"
VERSION = "v1.36.2"


def machine_capacity() -> dict[str, str]:
    """What this machine has: cores, memory in KiB, and room for 110 pods."""
    memory = 0
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024
    return {"cpu": str(os.cpu_count() or 1), "memory": f"{memory}Ki", "pods": "110", "ephemeral-storage": "100Gi"}


@dataclass(frozen=True)
class VirtualNode:
    """A node that exists in the API only; its pods are processes of this machine."""

    name: str = "local"
    capacity: Mapping[str, str] = field(default_factory=machine_capacity)
    """E.g. {"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "4"}: what pods may ask for, not what is enforced."""
    labels: Mapping[str, str] = field(default_factory=dict)

    def resources(self) -> dict[str, str]:
        return {"pods": "110", **self.capacity}

    def as_object(self) -> Object:
        labels = {
            "kubernetes.io/hostname": self.name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
            **self.labels,
        }
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.name, "labels": labels},
            "spec": {},
        }

    def status(self, conditions: list[Object]) -> Object:
        for kind, text in PRESSURES.items():
            conditions = with_condition(
                conditions, kind, "False", f"KubeletHas{text}", f"kubelet has {text}", probe="lastHeartbeatTime"
            )
        conditions = with_condition(
            conditions, "Ready", "True", "KubeletReady", "kubelet is posting ready status", probe="lastHeartbeatTime"
        )
        return {
            "capacity": self.resources(),
            "allocatable": self.resources(),
            "conditions": conditions,
            "addresses": [
                {"type": "InternalIP", "address": "127.0.0.1"},
                {"type": "Hostname", "address": self.name},
            ],
            "nodeInfo": _node_info(),
        }


PRESSURES = {
    "MemoryPressure": "SufficientMemory",
    "DiskPressure": "NoDiskPressure",
    "PIDPressure": "SufficientPID",
}


def _node_info() -> Object:
    return {
        "architecture": platform.machine(),
        "operatingSystem": sys.platform,
        "kernelVersion": platform.release(),
        "osImage": platform.platform(terse=True),
        "kubeletVersion": VERSION,
        "kubeProxyVersion": VERSION,
        "containerRuntimeVersion": "processes://1",
        "machineID": "",
        "systemUUID": "",
        "bootID": "",
    }


class NodeAgents:
    """Registers the virtual nodes and renews their leases."""

    def __init__(self, api: KubeApi, nodes: Sequence[VirtualNode], knobs: Knobs) -> None:
        self._api = api
        self.nodes = {node.name: node for node in nodes}
        self.vanished: set[str] = set()
        self._knobs = knobs

    def is_alive(self, name: str) -> bool:
        return name in self.nodes and name not in self.vanished

    def allocatable(self, name: str) -> dict[str, str]:
        node = self.nodes.get(name)
        return node.resources() if node else {}

    async def register_all(self) -> None:
        for name in self.nodes:
            await self.register(name)

    async def register(self, name: str) -> None:
        """As a kubelet that starts: also of a node that had vanished, or was deleted."""
        node = self.nodes[name]
        self.vanished.discard(name)
        try:
            current = await self._api.create(NODES, node.as_object())
        except ApiError as error:
            if not error.already_exists:
                raise
            current = await self._api.get(NODES, name)
        conditions = (current.get("status") or {}).get("conditions") or []
        await self._api.replace_status(NODES, {**current, "status": node.status(conditions)})
        await self._renew(name)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._knobs.heartbeat_period)
            for name in self.nodes:
                if self.is_alive(name):
                    await self._renew(name)

    async def _renew(self, name: str) -> None:
        spec = {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": timestamps.micro_now()}
        metadata = {"name": name, "namespace": "kube-node-lease"}
        body = {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata, "spec": spec}
        await self._api.apply(LEASES, body, field_manager="kubelet")


class NodeLifecycle:
    """Marks silent nodes Unknown, taints them, deletes their pods after a while, and forgets pods of removed nodes."""

    def __init__(
        self,
        api: KubeApi,
        nodes: Informer,
        pods: Informer,
        leases: Informer,
        recorder: Recorder,
        knobs: Knobs,
    ) -> None:
        self._api = api
        self._nodes = nodes
        self._pods = pods
        self._leases = leases
        self._recorder = recorder
        self._knobs = knobs

    async def run(self) -> None:
        period = max(0.05, min(self._knobs.heartbeat_period, self._knobs.node_monitor_grace / 8))
        for informer in (self._nodes, self._pods, self._leases):
            await informer.synced.wait()
        while True:
            await asyncio.sleep(period)
            for node in self._nodes.list():
                await self._attempt(self._check(node))
            await self._attempt(self._remove_orphans())

    async def _attempt(self, work: Any) -> None:
        """A conflict or a vanished object is met again at the next round."""
        try:
            await work
        except ApiError as error:
            if not (error.conflict or error.not_found):
                raise

    async def _check(self, node: Object) -> None:
        ready = find((node.get("status") or {}).get("conditions") or [], "Ready")
        silent = self._silent_for(node["metadata"]["name"])
        if ready is None or silent is None:
            return
        if silent > self._knobs.node_monitor_grace:
            if ready["status"] == "True":
                await self._mark_unknown(node)
            else:
                await self._delete_pods(node["metadata"]["name"], timestamps.seconds_since(ready["lastTransitionTime"]))
        elif ready["status"] == "Unknown":
            await self._mark_back(node)

    def _silent_for(self, name: str) -> float | None:
        lease = self._leases.get("kube-node-lease", name)
        return timestamps.seconds_since(lease["spec"]["renewTime"]) if lease else None

    async def _mark_unknown(self, node: Object) -> None:
        name = node["metadata"]["name"]
        conditions = node["status"]["conditions"]
        for kind in (*PRESSURES, "Ready"):
            text = "Kubelet stopped posting node status."
            conditions = with_condition(conditions, kind, "Unknown", "NodeStatusUnknown", text)
        await self._api.replace_status(NODES, {**node, "status": {**node["status"], "conditions": conditions}})
        moment = timestamps.now()
        taints = [
            {"key": UNREACHABLE_TAINT, "effect": effect, "timeAdded": moment} for effect in ("NoSchedule", "NoExecute")
        ]
        await self._api.patch(NODES, name, {"spec": {"taints": taints}})
        self._recorder.record(node, "Normal", "NodeNotReady", f"Node {name} status is now: NodeNotReady")
        for pod in self._pods_on(name):
            conditions = (pod.get("status") or {}).get("conditions") or []
            made = with_condition(conditions, "Ready", "False", "NodeNotReady")
            await self._attempt(
                self._api.replace_status(PODS, {**pod, "status": {**(pod.get("status") or {}), "conditions": made}})
            )

    async def _mark_back(self, node: Object) -> None:
        name = node["metadata"]["name"]
        current = await self._api.patch(NODES, name, {"spec": {"taints": None}})
        status = VirtualNode(name, node["status"]["capacity"]).status(current["status"]["conditions"])
        await self._api.replace_status(NODES, {**current, "status": {**current["status"], **status}})

    def _pods_on(self, node: str) -> list[Object]:
        return [pod for pod in self._pods.list() if pod["spec"].get("nodeName") == node]

    async def _delete_pods(self, node: str, silent: float) -> None:
        for pod in self._pods_on(node):
            phase = (pod.get("status") or {}).get("phase")
            if pod["metadata"].get("deletionTimestamp") or phase in ("Succeeded", "Failed"):
                continue
            if silent < self._patience(pod):
                continue
            text = "Taint manager: deleting due to NoExecute taint"
            await self._attempt(self._disrupt(pod, "DeletionByTaintManager", text))
            await self._attempt(
                self._api.delete(
                    PODS, pod["metadata"]["name"], pod["metadata"]["namespace"], uid=pod["metadata"]["uid"]
                )
            )

    def _patience(self, pod: Object) -> float:
        """Seconds that a pod stays bound to a silent node."""
        for toleration in pod["spec"].get("tolerations") or []:
            of_key = toleration.get("key") in (None, "", UNREACHABLE_TAINT)
            if of_key and toleration.get("effect") in (None, "", "NoExecute"):
                return float(toleration.get("tolerationSeconds", math.inf))
        return self._knobs.unreachable_toleration

    async def _disrupt(self, pod: Object, reason: str, text: str, phase: str = "") -> None:
        status = pod.get("status") or {}
        conditions = with_condition(status.get("conditions") or [], "DisruptionTarget", "True", reason, text)
        made = {**status, "conditions": conditions} | ({"phase": phase} if phase else {})
        await self._api.replace_status(PODS, {**pod, "status": made})

    async def _remove_orphans(self) -> None:
        """Pods of a node that is gone for good become Failed and are removed (the pod garbage collector)."""
        known = {node["metadata"]["name"] for node in self._nodes.list()}
        for pod in self._pods.list():
            node = pod["spec"].get("nodeName")
            if not node or node in known:
                continue
            if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
                await self._disrupt(pod, "DeletionByPodGC", "PodGC: node no longer exists", "Failed")
            metadata = pod["metadata"]
            await self._api.delete(
                PODS, metadata["name"], metadata["namespace"], uid=metadata["uid"], grace_period_seconds=0
            )
