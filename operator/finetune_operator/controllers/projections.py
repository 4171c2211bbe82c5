"""What the caches keep of each object: only what the plans read. A full Pod is 26 KiB, its projection 1."""

from typing import Any

from finetune_api.names import LABEL_ATTEMPT
from finetune_operator.plan.attempt import SNAPSHOT_KEY
from finetune_operator.plan.names import ANNOTATION_JOB, ANNOTATION_NETWORK
from finetune_operator.plan.observation import INDEX_ANNOTATION, POD_CONDITIONS

Resource = dict[str, Any]
METADATA = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp")
DELETION = "deletionGracePeriodSeconds"
"""Of pods."""
OWNER = ("kind", "name", "uid", "controller")
LABELS = (LABEL_ATTEMPT,)
ANNOTATIONS = (ANNOTATION_JOB, ANNOTATION_NETWORK, INDEX_ANNOTATION)
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def project_fine_tune_job(job: Resource) -> Resource:
    """All but the copy of the spec that `kubectl apply` keeps in an annotation."""
    annotations = job["metadata"].get("annotations") or {}
    if LAST_APPLIED not in annotations:
        return job
    kept = {name: value for name, value in annotations.items() if name != LAST_APPLIED}
    return job | {"metadata": job["metadata"] | {"annotations": kept}}


def project_pod(pod: Resource) -> Resource:
    """Identity, node, and how its containers are."""
    status = pod.get("status") or {}
    kept: Resource = _only(status, ("phase", "reason", "message"))
    kept["conditions"] = [one for one in status.get("conditions") or () if one.get("type") in POD_CONDITIONS]
    for field in ("initContainerStatuses", "containerStatuses"):
        if field in status:
            kept[field] = [_only(one, ("name", "state")) for one in status[field]]
    head = _head(pod)
    head["metadata"] |= _only(pod["metadata"], (DELETION,))
    return head | {"spec": {"nodeName": pod.get("spec", {}).get("nodeName")}, "status": kept}


def project_job(job: Resource) -> Resource:
    """Identity, network and size of its gang, whether a queue holds it, how it ended; no template is read back."""
    spec = _only(job.get("spec") or {}, ("suspend", "completions"))
    return _head(job) | {"spec": spec, "status": _only(job.get("status") or {}, ("startTime", "conditions"))}


def project_identity(item: Resource) -> Resource:
    """That it is there is all that matters: of Services and accounts."""
    return _head(item)


def project_claim(claim: Resource) -> Resource:
    """Identity, and whether it has a volume."""
    return _head(claim) | {"status": _only(claim.get("status") or {}, ("phase",))}


def project_quota(quota: Resource) -> Resource:
    """Identity, what it selects, and how much of it is used."""
    return _head(quota) | {"spec": quota.get("spec") or {}, "status": quota.get("status") or {}}


def project_network_policy(policy: Resource) -> Resource:
    """Identity, and what it allows to whom."""
    return _head(policy) | {"spec": policy.get("spec") or {}}


def project_config_map(config_map: Resource) -> Resource:
    """Identity and the snapshot."""
    return _head(config_map) | {"data": _only(config_map.get("data") or {}, (SNAPSHOT_KEY,))}


def _head(item: Resource) -> Resource:
    metadata = item["metadata"]
    kept = _only(metadata, METADATA)
    for field, names in (("labels", LABELS), ("annotations", ANNOTATIONS)):
        if chosen := _only(metadata.get(field) or {}, names):
            kept[field] = chosen
    if owners := metadata.get("ownerReferences"):
        kept["ownerReferences"] = [_only(one, OWNER) for one in owners]
    return {"apiVersion": item["apiVersion"], "kind": item["kind"], "metadata": kept}


def _only(item: Resource, names: tuple[str, ...]) -> Resource:
    return {name: item[name] for name in names if name in item}
