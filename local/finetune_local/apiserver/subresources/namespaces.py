"""PUT namespaces/NAME/finalize: how the namespace controller lets a namespace go."""

from typing import Any

from finetune_local.apiserver.cluster import Cluster
from finetune_local.apiserver.deletion import may_be_removed
from finetune_local.apiserver.resource_type import ResourceType
from finetune_local.apiserver.revision_store import StoredObject
from finetune_local.apiserver.status_error import stale_write

Object = dict[str, Any]


def finalize(cluster: Cluster, resource: ResourceType, name: str, body: Object) -> StoredObject:
    """Takes spec.finalizers from the body; a deleted namespace without any is removed."""
    stored = cluster.operations.require(resource, "", name)
    version = (body.get("metadata") or {}).get("resourceVersion")
    if version and version != stored.body["metadata"]["resourceVersion"]:
        raise stale_write(resource.group, resource.plural, name)
    changed = stored.copy()
    changed.setdefault("spec", {})["finalizers"] = list((body.get("spec") or {}).get("finalizers") or ())
    if may_be_removed(changed):
        return cluster.operations.remove(resource, "", name, changed)
    updated = cluster.store.put(resource.key, "", name, changed)
    cluster.operations.notify(resource, updated, stored)
    return updated
