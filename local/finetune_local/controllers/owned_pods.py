"""Pods that a workload owns: finding them, making them from a template, deleting them."""

import random
from typing import Any

from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.errors import ApiError
from finetune_operator.kube.resources import PODS

Object = dict[str, Any]

OWNER_UID = "ownerUid"
ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""Kubernetes' alphabet for random suffixes: no vowels, no look-alikes."""


def owner_uid(item: Object) -> list[str]:
    """Indexer: uid of the controller."""
    owners = item["metadata"].get("ownerReferences") or []
    return [owner["uid"] for owner in owners if owner.get("controller")]


def random_suffix(length: int = 5) -> str:
    return "".join(random.choices(ALPHABET, k=length))


def controller_reference(owner: Object) -> Object:
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def pod_from_template(owner: Object, template: Object, name: str) -> Object:
    """A pod of `owner`; the caller may still change the metadata, which is its own copy."""
    metadata = template.get("metadata") or {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": owner["metadata"]["namespace"],
            "labels": dict(metadata.get("labels") or {}),
            "annotations": dict(metadata.get("annotations") or {}),
            "finalizers": list(metadata.get("finalizers") or []),
            "ownerReferences": [controller_reference(owner)],
        },
        "spec": dict(template["spec"]),
    }


def is_finished(pod: Object) -> bool:
    return phase(pod) in ("Succeeded", "Failed")


def phase(pod: Object) -> str:
    return str((pod.get("status") or {}).get("phase", "Pending"))


def is_terminating(pod: Object) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def is_active(pod: Object) -> bool:
    return not is_finished(pod) and not is_terminating(pod)


async def delete_pod(api: KubeApi, pod: Object) -> Object | None:
    """The deleted or terminating pod, None when it was gone already."""
    metadata = pod["metadata"]
    try:
        return await api.delete(PODS, metadata["name"], metadata["namespace"], uid=metadata["uid"])
    except ApiError as error:
        if error.not_found or error.conflict:
            return None
        raise
