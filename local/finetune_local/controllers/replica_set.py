"""The ReplicaSet controller."""

from typing import Any

from finetune_local import timestamps
from finetune_local.controllers.conditions import find
from finetune_local.controllers.owned_pods import (
    OWNER_UID,
    delete_pod,
    is_active,
    is_terminating,
    phase,
    pod_from_template,
    random_suffix,
)
from finetune_local.kubelet.pod_context import Recorder
from finetune_local.network.names import is_ready
from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.controller import Controller, Key, Result, owner_keys
from finetune_operator.kube.errors import ApiError
from finetune_operator.kube.expectations import Expectations
from finetune_operator.kube.informer import Informer
from finetune_operator.kube.resources import PODS, REPLICA_SETS

Object = dict[str, Any]


class ReplicaSetController:
    def __init__(self, api: KubeApi, replica_sets: Informer, pods: Informer, recorder: Recorder) -> None:
        self._api = api
        self._replica_sets = replica_sets
        self._pods = pods
        self._recorder = recorder
        self._expectations = Expectations()
        self._expectations.watch(replica_sets)
        self._expectations.watch(pods)
        self.controller = Controller("replicaset", self.reconcile, workers=4, expectations=self._expectations)
        self.controller.watch(replica_sets)
        self.controller.watch(pods, owner_keys("ReplicaSet"))

    async def reconcile(self, key: Key) -> Result | None:
        replica_set = self._replica_sets.get(*key)
        if replica_set is None:
            self._expectations.forget(key)
            return None
        pods = self._pods.by_index(OWNER_UID, replica_set["metadata"]["uid"])
        active = [pod for pod in pods if is_active(pod)]
        if not replica_set["metadata"].get("deletionTimestamp"):
            await self._manage(key, replica_set, active)
        terminating = sum(is_terminating(pod) and phase(pod) not in ("Succeeded", "Failed") for pod in pods)
        return await self._write_status(key, replica_set, active, terminating)

    async def _manage(self, key: Key, replica_set: Object, active: list[Object]) -> None:
        wanted = replica_set["spec"].get("replicas", 1)
        for _ in range(wanted - len(active)):
            name = f"{replica_set['metadata']['name']}-{random_suffix()}"
            body = pod_from_template(replica_set, replica_set["spec"]["template"], name)
            pod = await self._api.create(PODS, body, key[0])
            self._expectations.expect(key, "Pod", pod)
            active.append(pod)
            self._recorder.record(replica_set, "Normal", "SuccessfulCreate", f"Created pod: {name}")
        for pod in sorted(active, key=_deletion_order)[: max(0, len(active) - wanted)]:
            deleted = await delete_pod(self._api, pod)
            if deleted is not None and deleted.get("kind") == "Pod":
                self._expectations.expect(key, "Pod", deleted)
            active.remove(pod)
            name = pod["metadata"]["name"]
            self._recorder.record(replica_set, "Normal", "SuccessfulDelete", f"Deleted pod: {name}")

    async def _write_status(
        self, key: Key, replica_set: Object, active: list[Object], terminating: int
    ) -> Result | None:
        minimum = replica_set["spec"].get("minReadySeconds", 0)
        waits = [wait for pod in active if (wait := seconds_to_available(pod, minimum)) is not None]
        labels = (replica_set["spec"]["template"].get("metadata") or {}).get("labels") or {}
        status = {
            "replicas": len(active),
            "fullyLabeledReplicas": sum(labels.items() <= _labels(pod).items() for pod in active),
            "readyReplicas": sum(map(is_ready, active)),
            "availableReplicas": sum(wait <= 0 for wait in waits),
            "terminatingReplicas": terminating,
            "observedGeneration": replica_set["metadata"].get("generation", 1),
            "conditions": (replica_set.get("status") or {}).get("conditions"),
        }
        before = replica_set.get("status") or {}
        status = {name: value for name, value in status.items() if value or name == "replicas"}
        if status != before:
            try:
                written = await self._api.replace_status(REPLICA_SETS, {**replica_set, "status": status})
            except ApiError as error:
                if error.not_found:
                    return None
                raise
            self._expectations.expect(key, "ReplicaSet", written)
        later = [wait for wait in waits if wait > 0]
        return Result(requeue_after=min(later)) if later else None


def seconds_to_available(pod: Object, minimum: float) -> float | None:
    """Seconds until the pod counts as available: 0 or less when it does, None while it is not ready."""
    ready = find((pod.get("status") or {}).get("conditions") or [], "Ready")
    if ready is None or ready["status"] != "True":
        return None
    if minimum == 0:
        return 0.0
    return minimum - timestamps.seconds_since(ready["lastTransitionTime"])


def _labels(pod: Object) -> dict[str, str]:
    return pod["metadata"].get("labels") or {}


def _deletion_order(pod: Object) -> tuple[bool, bool, int, str]:
    """Unbound before bound, unready before ready, cheap (pod-deletion-cost) before dear, young before old."""
    annotations = pod["metadata"].get("annotations") or {}
    cost = int(annotations.get("controller.kubernetes.io/pod-deletion-cost", 0))
    age = "".join(chr(255 - ord(letter)) for letter in pod["metadata"].get("creationTimestamp", ""))
    return bool(pod["spec"].get("nodeName")), is_ready(pod), cost, age
