"""Pod subresources that change a pod: eviction and binding."""

from typing import Any

from finetune_local.apiserver.cluster import Cluster
from finetune_local.apiserver.delete_operations import delete
from finetune_local.apiserver.object_meta import timestamp
from finetune_local.apiserver.request_options import DeleteOptions
from finetune_local.apiserver.resource_type import ResourceType
from finetune_local.apiserver.revision_store import StoredObject
from finetune_local.apiserver.selectors import labels_match, selector_requirements
from finetune_local.apiserver.status_error import StatusError, conflict, invalid, required

Object = dict[str, Any]
SUCCESS = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def evict(cluster: Cluster, resource: ResourceType, namespace: str, name: str, body: Object) -> Object:
    """Deletes the pod unless a PodDisruptionBudget forbids it (429), and says why in a pod condition."""
    stored = cluster.operations.require(resource, namespace, name)
    _check_budgets(cluster, stored.body)
    options = DeleteOptions.from_body(body.get("deleteOptions") or {})
    if not options.dry_run:
        _add_disruption_target(cluster, resource, stored)
        delete(cluster.operations, resource, namespace, name, options)
    return SUCCESS


def _check_budgets(cluster: Cluster, pod: Object) -> None:
    namespace = pod["metadata"]["namespace"]
    for stored in cluster.store.collection(("policy", "poddisruptionbudgets")).items(namespace):
        budget = stored.body
        selector = budget.get("spec", {}).get("selector")
        if selector is None or not labels_match(selector_requirements(selector), pod):
            continue
        if budget.get("status", {}).get("disruptionsAllowed", 0) <= 0:
            name = budget["metadata"]["name"]
            raise StatusError(
                429,
                "TooManyRequests",
                "Cannot evict pod as it would violate the pod's disruption budget.",
                causes=[
                    {
                        "reason": "DisruptionBudget",
                        "message": f"The disruption budget {name} does not allow a disruption now",
                    }
                ],
            )


def _add_disruption_target(cluster: Cluster, resource: ResourceType, stored: StoredObject) -> None:
    body = stored.copy()
    conditions = body.setdefault("status", {}).setdefault("conditions", [])
    conditions[:] = [one for one in conditions if one.get("type") != "DisruptionTarget"]
    conditions.append(
        {
            "type": "DisruptionTarget",
            "status": "True",
            "lastTransitionTime": timestamp(),
            "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting",
        }
    )
    meta = body["metadata"]
    updated = cluster.store.put(resource.key, meta["namespace"], meta["name"], body)
    cluster.operations.notify(resource, updated, stored)


def bind(cluster: Cluster, resource: ResourceType, namespace: str, name: str, body: Object) -> Object:
    """The scheduler's decision: sets spec.nodeName and the PodScheduled condition, once."""
    stored = cluster.operations.require(resource, namespace, name)
    node = (body.get("target") or {}).get("name")
    if not node:
        raise invalid("", "Binding", name, [required("target.name")])
    if stored.body["spec"].get("nodeName"):
        text = f'pod {name} is already assigned to node "{stored.body["spec"]["nodeName"]}"'
        raise conflict("", "pods/binding", name, text)
    if stored.body["metadata"].get("deletionTimestamp"):
        raise conflict("", "pods/binding", name, f"pod {name} is being deleted, cannot be assigned to a host")
    changed = stored.copy()
    changed["spec"]["nodeName"] = node
    conditions = changed.setdefault("status", {}).setdefault("conditions", [])
    conditions[:] = [one for one in conditions if one.get("type") != "PodScheduled"]
    conditions.append({"type": "PodScheduled", "status": "True", "lastTransitionTime": timestamp()})
    updated = cluster.store.put(resource.key, namespace, name, changed)
    cluster.operations.notify(resource, updated, stored)
    return SUCCESS
