"""DELETE of one object and of a collection."""

from collections.abc import Callable
from typing import Any

from finetune_local.apiserver import object_codec
from finetune_local.apiserver.deletion import JOB_WARNING, mark_deleted, may_be_removed
from finetune_local.apiserver.namespace_admission import NAMESPACES, check_namespace_deletion
from finetune_local.apiserver.operations import Operations
from finetune_local.apiserver.request_options import DeleteOptions
from finetune_local.apiserver.resource_type import ResourceType
from finetune_local.apiserver.revision_store import StoredObject
from finetune_local.apiserver.status_error import conflict
from finetune_local.apiserver.webhooks.question import Phase, Question

Object = dict[str, Any]
PHASES: tuple[Phase, ...] = ("mutating", "validating")
# Kinds whose strategy returns the deleted object; all others answer with a Status.
RETURNS_OBJECT = {
    ("", "pods"),
    ("", "services"),
    ("", "serviceaccounts"),
    ("", "persistentvolumeclaims"),
    ("", "persistentvolumes"),
}


def delete(
    operations: Operations,
    resource: ResourceType,
    namespace: str,
    name: str,
    options: DeleteOptions,
) -> tuple[StoredObject, bool]:
    """The object as it is afterwards, and whether it is gone."""
    if resource.key == NAMESPACES:
        check_namespace_deletion(name)
    stored = operations.require(resource, namespace, name)
    _check_preconditions(resource, stored, options)
    if options.admission is not None:
        old = object_codec.view(resource, stored)
        for phase in PHASES:
            options.admission.ask(
                Question(phase, "DELETE", resource, "", namespace, name, None, old, options.user, options.dry_run)
            )
    if resource.key == ("batch", "jobs") and not options.propagation_policy:
        options.warnings.append(JOB_WARNING)
    body = stored.copy()
    mark_deleted(resource, body, options)
    if options.dry_run:
        return stored, may_be_removed(body)
    if may_be_removed(body):
        return operations.remove(resource, namespace, name, body), True
    if body == stored.body:
        return stored, False
    updated = operations.store.put(resource.key, namespace if resource.namespaced else "", name, body)
    operations.notify(resource, updated, stored)
    return updated, False


def _check_preconditions(resource: ResourceType, stored: StoredObject, options: DeleteOptions) -> None:
    meta = stored.body["metadata"]
    for label, wanted, actual in (
        ("UID", options.uid, meta["uid"]),
        ("ResourceVersion", options.resource_version, meta["resourceVersion"]),
    ):
        if wanted and wanted != actual:
            text = f"Precondition failed: {label} in precondition: {wanted}, {label} in object meta: {actual}"
            raise conflict(resource.group, resource.plural, meta["name"], text)


def deletion_status(resource: ResourceType, stored: StoredObject) -> Object:
    """What a finished deletion answers for most kinds."""
    meta = stored.body["metadata"]
    details = {"name": meta["name"], "group": resource.group, "kind": resource.plural, "uid": meta["uid"]}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {key: value for key, value in details.items() if value},
    }


def matching(
    operations: Operations, resource: ResourceType, namespace: str, matches: Callable[[Object], bool]
) -> list[StoredObject]:
    """What a deletion of a collection concerns."""
    return [one for one in operations.store.collection(resource.key).items(namespace) if matches(one.body)]


def delete_collection(
    operations: Operations,
    resource: ResourceType,
    namespace: str,
    matches: Callable[[Object], bool],
    options: DeleteOptions,
) -> None:
    """Deletes what matches, without asking webhooks: what goes with its CRD or its namespace is not asked for."""
    for stored in matching(operations, resource, namespace, matches):
        meta = stored.body["metadata"]
        delete(operations, resource, meta.get("namespace", ""), meta["name"], options)
