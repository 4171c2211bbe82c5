"""Namespace lifecycle admission: objects are created only in namespaces that exist and are not being deleted."""

from typing import Any

from finetune_local.apiserver.resource_type import ResourceType
from finetune_local.apiserver.revision_store import RevisionStore
from finetune_local.apiserver.status_error import Cause, StatusError, bad_request, forbidden, not_found

NAMESPACES = ("", "namespaces")
IMMORTAL = ("default", "kube-system", "kube-public")


def check_namespace(store: RevisionStore, resource: ResourceType, namespace: str, body: dict[str, Any]) -> None:
    if not resource.namespaced:
        return
    if not namespace:
        raise bad_request("an empty namespace may not be set during creation")
    stored = store.collection(NAMESPACES).get("", namespace)
    if stored is None:
        raise not_found("", "namespaces", namespace)
    if stored.body["metadata"].get("deletionTimestamp"):
        text = f"unable to create new content in namespace {namespace} because it is being terminated"
        cause = Cause("NamespaceTerminating", f"namespace {namespace} is being terminated", "metadata.namespace")
        raise forbidden(resource.group, resource.plural, body["metadata"].get("name", ""), text, cause)


def check_namespace_deletion(name: str) -> None:
    if name in IMMORTAL:
        raise StatusError(
            403,
            "Forbidden",
            f'namespaces "{name}" is forbidden: this namespace may not be deleted',
            name=name,
            kind="namespaces",
        )
