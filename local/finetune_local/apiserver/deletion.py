"""When objects may go: finalizers, grace periods and propagation policies."""

from datetime import UTC, datetime, timedelta
from typing import Any

from finetune_local.apiserver.object_meta import timestamp
from finetune_local.apiserver.request_options import DeleteOptions
from finetune_local.apiserver.resource_type import ResourceType

Object = dict[str, Any]
FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
JOB_WARNING = (
    "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set "
    "propagationPolicy=Orphan to suppress this warning"
)


def may_be_removed(body: Object) -> bool:
    """Deleted, and neither a finalizer nor a grace period nor (namespaces) content holds it."""
    meta = body["metadata"]
    if not meta.get("deletionTimestamp") or meta.get("finalizers") or meta.get("deletionGracePeriodSeconds"):
        return False
    return not (body.get("kind") == "Namespace" and body.get("spec", {}).get("finalizers"))


def mark_deleted(resource: ResourceType, body: Object, options: DeleteOptions) -> None:
    """Sets, in place, what a deletion leaves on an object that stays for now (or for the last event)."""
    _set_propagation_finalizers(resource, body, options)
    meta = body["metadata"]
    grace = grace_period(resource, body, options)
    first = "deletionTimestamp" not in meta
    if first or grace < meta.get("deletionGracePeriodSeconds", 0):
        meta["deletionTimestamp"] = _in_seconds(grace) if grace else meta.get("deletionTimestamp") or timestamp()
        meta["deletionGracePeriodSeconds"] = grace
    if first and "generation" in meta:
        meta["generation"] += 1
    if resource.key == ("", "namespaces"):
        body.setdefault("status", {})["phase"] = "Terminating"


def grace_period(resource: ResourceType, body: Object, options: DeleteOptions) -> int:
    """Seconds that the kubelet has; pods that run nowhere (any more) need none."""
    if not resource.graceful:
        return 0
    running = body.get("spec", {}).get("nodeName") and body.get("status", {}).get("phase") not in (
        "Succeeded",
        "Failed",
    )
    if not running:
        return 0
    if options.grace_period_seconds is not None:
        return max(options.grace_period_seconds, 0)
    default: int = body.get("spec", {}).get("terminationGracePeriodSeconds", 30)
    return default


def _in_seconds(seconds: int) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _set_propagation_finalizers(resource: ResourceType, body: Object, options: DeleteOptions) -> None:
    meta = body["metadata"]
    finalizers = [name for name in meta.get("finalizers") or () if name not in (FOREGROUND, ORPHAN)]
    policy = propagation(resource, body, options)
    if policy == "Foreground":
        finalizers.append(FOREGROUND)
    elif policy == "Orphan":
        finalizers.append(ORPHAN)
    if finalizers:
        meta["finalizers"] = finalizers
    else:
        meta.pop("finalizers", None)


def propagation(resource: ResourceType, body: Object, options: DeleteOptions) -> str:
    """Explicit policy, else the finalizer that is set already, else the default: Jobs orphan, all others don't."""
    if options.propagation_policy:
        return options.propagation_policy
    present = body["metadata"].get("finalizers") or ()
    if FOREGROUND in present:
        return "Foreground"
    if ORPHAN in present:
        return "Orphan"
    return "Orphan" if resource.key == ("batch", "jobs") else "Background"
