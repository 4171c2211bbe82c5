"""What the caches keep of each object: only what the plans read. A full Pod is 26 KiB, its projection 3."""

from typing import Any

from finetune_operator.plan.attempt import SNAPSHOT_KEY

Resource = dict[str, Any]
METADATA = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "labels",
    "annotations",
    "ownerReferences",
    "creationTimestamp",
    "deletionTimestamp",
)


def project_pod(pod: Resource) -> Resource:
    """Identity, node and status."""
    return _head(pod) | {
        "spec": {"nodeName": pod.get("spec", {}).get("nodeName")},
        "status": pod.get("status", {}),
    }


def project_job(job: Resource) -> Resource:
    """Identity, whether a queue holds it, and status; the template is never read back."""
    return _head(job) | {"spec": {"suspend": job.get("spec", {}).get("suspend")}, "status": job.get("status", {})}


def project_identity(item: Resource) -> Resource:
    """That it is there is all that matters: of Services and PersistentVolumeClaims."""
    return _head(item)


def project_config_map(config_map: Resource) -> Resource:
    """Identity and the snapshot."""
    data = config_map.get("data") or {}
    return _head(config_map) | {"data": {key: data[key] for key in (SNAPSHOT_KEY,) if key in data}}


def _head(item: Resource) -> Resource:
    metadata = {name: item["metadata"][name] for name in METADATA if name in item["metadata"]}
    return {"apiVersion": item["apiVersion"], "kind": item["kind"], "metadata": metadata}
