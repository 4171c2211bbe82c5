"""Binds pods to nodes that have room for them; says Unschedulable, and why, when none has."""

import asyncio
from decimal import Decimal
from typing import Any

from finetune_local import timestamps
from finetune_local.controllers.conditions import find, with_condition
from finetune_local.controllers.fit import Amounts, choose, requests
from finetune_local.knobs import Knobs
from finetune_local.kubelet.pod_context import Recorder
from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.controller import Controller, Key, Result
from finetune_operator.kube.errors import ApiError
from finetune_operator.kube.informer import Informer
from finetune_operator.kube.resources import PODS

Object = dict[str, Any]

NAMES = ("", "default-scheduler")
RETRY = 5.0


class Scheduler:
    def __init__(
        self,
        api: KubeApi,
        pods: Informer,
        nodes: Informer,
        claims: Informer,
        recorder: Recorder,
        knobs: Knobs,
    ) -> None:
        self._api = api
        self._pods = pods
        self._nodes = nodes
        self._claims = claims
        self._recorder = recorder
        self._knobs = knobs
        self._taken: dict[str, Amounts] = {}
        self._counted: dict[str, tuple[str, Amounts]] = {}
        """Pod uid → node and requests: also pods that we bound a moment ago and that the cache does not show yet."""
        self._unschedulable: set[Key] = set()
        pods.add_handler(self._account)
        nodes.add_handler(lambda old, new: self._retry_all())
        claims.add_handler(lambda old, new: self._retry_all())
        self.controller = Controller("scheduler", self.reconcile, workers=1)
        self.controller.watch(pods, _if_unbound)

    def _account(self, old: Object | None, new: Object | None) -> None:
        pod = new or old or {}
        uid = pod["metadata"]["uid"]
        finished = new is None or (new.get("status") or {}).get("phase") in ("Succeeded", "Failed")
        if finished:
            if uid in self._counted:
                self._forget(uid)
                self._retry_all()
        elif node := pod["spec"].get("nodeName"):
            self._count(pod, node)

    def _count(self, pod: Object, node: str) -> None:
        uid = pod["metadata"]["uid"]
        if uid not in self._counted:
            amounts = requests(pod)
            self._counted[uid] = node, amounts
            self._add(node, amounts, 1)

    def _forget(self, uid: str) -> None:
        node, amounts = self._counted.pop(uid)
        self._add(node, amounts, -1)

    def _add(self, node: str, amounts: Amounts, sign: int) -> None:
        taken = self._taken.setdefault(node, {})
        for name, amount in amounts.items():
            taken[name] = taken.get(name, Decimal(0)) + sign * amount

    def _retry_all(self) -> None:
        for key in self._unschedulable:
            self.controller.queue.add(key)

    async def reconcile(self, key: Key) -> Result | None:
        pod = self._pods.get(*key)
        if pod is None or not _wants_node(pod) or pod["metadata"]["uid"] in self._counted:
            self._unschedulable.discard(key)
            return None
        wait = self._knobs.schedule_delay - timestamps.seconds_since(pod["metadata"]["creationTimestamp"])
        if self._knobs.schedule_delay and wait > 0:
            return Result(requeue_after=wait)
        obstacle = self._claim_obstacle(pod)
        node, message = (None, obstacle) if obstacle else choose(pod, self._nodes.list(), self._taken)
        if node is None:
            await self._refuse(key, pod, message)
            return Result(requeue_after=RETRY)
        await self._bind(key, pod, node)
        return None

    def _claim_obstacle(self, pod: Object) -> str:
        for volume in pod["spec"].get("volumes") or []:
            name = (volume.get("persistentVolumeClaim") or {}).get("claimName")
            if name is None:
                continue
            claim = self._claims.get(pod["metadata"]["namespace"], name)
            count = len(self._nodes.list())
            if claim is None:
                return f'0/{count} nodes are available: persistentvolumeclaim "{name}" not found.'
            if (claim.get("status") or {}).get("phase") != "Bound":
                return f"0/{count} nodes are available: pod has unbound immediate PersistentVolumeClaims."
        return ""

    async def _bind(self, key: Key, pod: Object, node: str) -> None:
        self._count(pod, node)
        self._unschedulable.discard(key)
        metadata = pod["metadata"]
        try:
            binding = {
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": {"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"]},
                "target": {"apiVersion": "v1", "kind": "Node", "name": node},
            }
            await self._api.post(PODS.path(metadata["namespace"], metadata["name"], "binding"), binding)
        except (ApiError, asyncio.CancelledError):
            self._forget(metadata["uid"])
            raise
        name = f"{metadata['namespace']}/{metadata['name']}"
        self._recorder.record(pod, "Normal", "Scheduled", f"Successfully assigned {name} to {node}", "Binding")

    async def _refuse(self, key: Key, pod: Object, message: str) -> None:
        self._unschedulable.add(key)
        conditions = (pod.get("status") or {}).get("conditions") or []
        before = find(conditions, "PodScheduled")
        if before and before["status"] == "False" and before.get("message") == message:
            return
        made = with_condition(conditions, "PodScheduled", "False", "Unschedulable", message, probe="lastProbeTime")
        status = {**(pod.get("status") or {}), "phase": "Pending", "conditions": made}
        await self._api.replace_status(PODS, {**pod, "status": status})
        self._recorder.record(pod, "Warning", "FailedScheduling", message, "Scheduling")


def _wants_node(pod: Object) -> bool:
    spec, metadata = pod["spec"], pod["metadata"]
    gated = spec.get("schedulingGates")
    ours = spec.get("schedulerName", "") in NAMES
    return ours and not spec.get("nodeName") and not gated and not metadata.get("deletionTimestamp")


def _if_unbound(pod: Object) -> list[Key]:
    if not _wants_node(pod) or (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return []
    return [(pod["metadata"]["namespace"], pod["metadata"]["name"])]
