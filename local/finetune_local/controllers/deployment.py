"""The Deployment controller: rolling updates by ReplicaSets, with progress and availability conditions."""

from typing import Any

import orjson

from finetune_local import timestamps
from finetune_local.controllers.conditions import find, with_condition
from finetune_local.controllers.owned_pods import OWNER_UID, controller_reference
from finetune_local.controllers.rollout import (
    HASH_LABEL,
    REVISION,
    limits,
    plan_scales,
    replicas_of,
    template_hash,
    template_of,
)
from finetune_local.kubelet.pod_context import Recorder
from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.controller import Controller, Key, Result, owner_keys
from finetune_operator.kube.expectations import Expectations
from finetune_operator.kube.informer import Informer
from finetune_operator.kube.resources import DEPLOYMENTS, REPLICA_SETS

Object = dict[str, Any]


class DeploymentController:
    def __init__(self, api: KubeApi, deployments: Informer, replica_sets: Informer, recorder: Recorder) -> None:
        self._api = api
        self._deployments = deployments
        self._replica_sets = replica_sets
        self._recorder = recorder
        self._expectations = Expectations()
        self._expectations.watch(deployments)
        self._expectations.watch(replica_sets)
        self.controller = Controller("deployment", self.reconcile, workers=4, expectations=self._expectations)
        self.controller.watch(deployments)
        self.controller.watch(replica_sets, owner_keys("Deployment"))

    async def reconcile(self, key: Key) -> Result | None:
        deployment = self._deployments.get(*key)
        if deployment is None:
            self._expectations.forget(key)
            return None
        if deployment["metadata"].get("deletionTimestamp"):
            return None
        deployment = _editable(deployment)
        owned = [_editable(one) for one in self._replica_sets.by_index(OWNER_UID, deployment["metadata"]["uid"])]
        new = self._find_new(deployment, owned)
        old = [one for one in owned if one is not new]
        if deployment["spec"].get("paused"):
            await self._scale_paused(key, deployment, owned)
        else:
            new = await self._ensure_new(key, deployment, new, owned)
            await self._scale(key, deployment, new, old)
            await self._prune(key, deployment, old)
        everyone = owned if new is None or new in owned else [*owned, new]
        return await self._write_status(key, deployment, new, everyone)

    def _find_new(self, deployment: Object, owned: list[Object]) -> Object | None:
        template = deployment["spec"]["template"]
        matching = [one for one in owned if template_of(one) == template]
        return min(matching, key=lambda one: one["metadata"]["creationTimestamp"], default=None)

    async def _ensure_new(self, key: Key, deployment: Object, new: Object | None, owned: list[Object]) -> Object:
        highest = max((_revision(one) for one in owned if one is not new), default=0)
        if new is None:
            new = await self._create(key, deployment, highest + 1)
        elif _revision(new) <= highest:
            annotations = {REVISION: str(highest + 1)}
            new = await self._patch_set(key, new, {"metadata": {"annotations": annotations}})
        await self._note_revision(key, deployment, _revision(new))
        return new

    async def _create(self, key: Key, deployment: Object, revision: int) -> Object:
        spec, metadata = deployment["spec"], deployment["metadata"]
        digest = template_hash(spec["template"], (deployment.get("status") or {}).get("collisionCount") or 0)
        template: Object = orjson.loads(orjson.dumps(spec["template"]))
        template.setdefault("metadata", {}).setdefault("labels", {})[HASH_LABEL] = digest
        selector: Object = orjson.loads(orjson.dumps(spec["selector"]))
        selector.setdefault("matchLabels", {})[HASH_LABEL] = digest
        body = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": f"{metadata['name']}-{digest}",
                "namespace": key[0],
                "labels": dict(template["metadata"]["labels"]),
                "annotations": {REVISION: str(revision)},
                "ownerReferences": [controller_reference(deployment)],
            },
            "spec": {
                "replicas": 0,
                "selector": selector,
                "template": template,
                "minReadySeconds": spec.get("minReadySeconds") or 0,
            },
        }
        made = await self._api.create(REPLICA_SETS, body, key[0])
        self._expectations.expect(key, "ReplicaSet", made)
        return made

    async def _note_revision(self, key: Key, deployment: Object, revision: int) -> None:
        annotations = deployment["metadata"].get("annotations") or {}
        if annotations.get(REVISION) != str(revision):
            patch = {"metadata": {"annotations": {REVISION: str(revision)}}}
            written = await self._api.patch(DEPLOYMENTS, key[1], patch, key[0])
            self._expectations.expect(key, "Deployment", written)
            deployment["metadata"]["resourceVersion"] = written["metadata"]["resourceVersion"]

    async def _patch_set(self, key: Key, replica_set: Object, patch: Object) -> Object:
        written = await self._api.patch(REPLICA_SETS, replica_set["metadata"]["name"], patch, key[0])
        self._expectations.expect(key, "ReplicaSet", written)
        return written

    async def _scale(self, key: Key, deployment: Object, new: Object, old: list[Object]) -> None:
        everyone = {one["metadata"]["name"]: one for one in [new, *old]}
        for name, replicas in plan_scales(deployment, new, old).items():
            await self._scale_set(key, deployment, everyone[name], replicas)

    async def _scale_set(self, key: Key, deployment: Object, replica_set: Object, replicas: int) -> None:
        before = replicas_of(replica_set)
        written = await self._patch_set(key, replica_set, {"spec": {"replicas": replicas}})
        replica_set["spec"]["replicas"] = written["spec"]["replicas"]
        way = "up" if replicas > before else "down"
        name = replica_set["metadata"]["name"]
        note = f"Scaled {way} replica set {name} from {before} to {replicas}"
        self._recorder.record(deployment, "Normal", "ScalingReplicaSet", note)

    async def _scale_paused(self, key: Key, deployment: Object, owned: list[Object]) -> None:
        """A paused Deployment still scales, when it has one ReplicaSet with pods."""
        active = [one for one in owned if replicas_of(one) > 0]
        if len(active) == 1 and replicas_of(active[0]) != replicas_of(deployment):
            await self._scale_set(key, deployment, active[0], replicas_of(deployment))

    async def _prune(self, key: Key, deployment: Object, old: list[Object]) -> None:
        limit = deployment["spec"].get("revisionHistoryLimit")
        limit = 10 if limit is None else limit
        empty = [one for one in old if replicas_of(one) == 0 and not (one.get("status") or {}).get("replicas")]
        for one in sorted(empty, key=_revision)[: max(0, len(empty) - limit)]:
            await self._api.delete(REPLICA_SETS, one["metadata"]["name"], key[0], uid=one["metadata"]["uid"])

    async def _write_status(
        self, key: Key, deployment: Object, new: Object | None, owned: list[Object]
    ) -> Result | None:
        def total(field: str) -> int:
            return sum(int((one.get("status") or {}).get(field, 0)) for one in owned)

        before = deployment.get("status") or {}
        wanted = replicas_of(deployment)
        status: Object = {
            "observedGeneration": deployment["metadata"].get("generation", 1),
            "replicas": total("replicas"),
            "updatedReplicas": int((new or {}).get("status", {}).get("replicas", 0)),
            "readyReplicas": total("readyReplicas"),
            "availableReplicas": total("availableReplicas"),
            "terminatingReplicas": total("terminatingReplicas"),
            "collisionCount": before.get("collisionCount"),
        }
        status["unavailableReplicas"] = max(0, max(wanted, status["replicas"]) - status["availableReplicas"])
        conditions = _availability(before.get("conditions") or [], deployment, status["availableReplicas"])
        status["conditions"], wait = _progress(conditions, deployment, new, before, status)
        status = {name: value for name, value in status.items() if value or name == "observedGeneration"}
        if status != before:
            written = await self._api.replace_status(DEPLOYMENTS, {**deployment, "status": status})
            self._expectations.expect(key, "Deployment", written)
        return Result(requeue_after=wait) if wait is not None else None


def _editable(item: Object) -> Object:
    """A copy whose metadata and spec may be changed at their first level; the cache must not be."""
    return {**item, "metadata": dict(item["metadata"]), "spec": dict(item["spec"])}


def _revision(replica_set: Object) -> int:
    return int((replica_set["metadata"].get("annotations") or {}).get(REVISION, 0))


def _availability(conditions: list[Object], deployment: Object, available: int) -> list[Object]:
    _, unavailable = limits(deployment)
    if available >= replicas_of(deployment) - unavailable:
        text = "Deployment has minimum availability."
        return with_condition(conditions, "Available", "True", "MinimumReplicasAvailable", text, probe="lastUpdateTime")
    text = "Deployment does not have minimum availability."
    return with_condition(conditions, "Available", "False", "MinimumReplicasUnavailable", text, probe="lastUpdateTime")


def _progress(
    conditions: list[Object], deployment: Object, new: Object | None, before: Object, status: Object
) -> tuple[list[Object], float | None]:
    """The Progressing condition, and seconds until the progress deadline strikes."""
    deadline = deployment["spec"].get("progressDeadlineSeconds")
    deadline = 600 if deadline is None else deadline
    if new is None or deadline == 2**31 - 1:
        return conditions, None
    name = new["metadata"]["name"]
    wanted = replicas_of(deployment)
    done = status["updatedReplicas"] == status["replicas"] == status["availableReplicas"] == wanted
    current = find(conditions, "Progressing")
    if done:
        text = f'ReplicaSet "{name}" has successfully progressed.'
        return _progressing(conditions, "True", "NewReplicaSetAvailable", text), None
    restarted = current is None or name not in current["message"] or _moved(before, status)
    if restarted or (current is not None and current["reason"] == "NewReplicaSetAvailable"):
        text = f'ReplicaSet "{name}" is progressing.'
        others = [one for one in conditions if one["type"] != "Progressing"] if restarted else conditions
        made = _progressing(others, "True", "ReplicaSetUpdated", text)
        if current is not None and restarted:
            find(made, "Progressing")["lastTransitionTime"] = current["lastTransitionTime"]  # type: ignore[index]
        return made, deadline
    remaining = deadline - timestamps.seconds_since(current["lastUpdateTime"]) if current else deadline
    if remaining > 0 or (current and current["status"] == "False"):
        return conditions, remaining if remaining > 0 else None
    text = f'ReplicaSet "{name}" has timed out progressing.'
    return _progressing(conditions, "False", "ProgressDeadlineExceeded", text), None


def _progressing(conditions: list[Object], status: str, reason: str, text: str) -> list[Object]:
    return with_condition(conditions, "Progressing", status, reason, text, probe="lastUpdateTime")


def _moved(before: Object, status: Object) -> bool:
    """Whether the rollout came forward since the last status."""

    def number(source: Object, field: str) -> int:
        return int(source.get(field) or 0)

    grown = any(
        number(status, field) > number(before, field)
        for field in ("updatedReplicas", "readyReplicas", "availableReplicas")
    )
    old_before = number(before, "replicas") - number(before, "updatedReplicas")
    return grown or number(status, "replicas") - number(status, "updatedReplicas") < old_before
