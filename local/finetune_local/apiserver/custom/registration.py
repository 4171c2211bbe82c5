"""Serves custom resources while their CRD exists, and cleans them up when it goes."""

from typing import Any

from finetune_local.apiserver.custom.definition import resource_types
from finetune_local.apiserver.delete_operations import delete_collection
from finetune_local.apiserver.deletion import may_be_removed
from finetune_local.apiserver.object_meta import timestamp
from finetune_local.apiserver.operations import Operations
from finetune_local.apiserver.request_options import DeleteOptions
from finetune_local.apiserver.resource_type import ResourceType
from finetune_local.apiserver.revision_store import StoredObject
from finetune_local.apiserver.schema import Schema
from finetune_local.apiserver.type_registry import TypeRegistry

Object = dict[str, Any]
CRDS = ("apiextensions.k8s.io", "customresourcedefinitions")
CLEANUP = "customresourcecleanup.apiextensions.k8s.io"


class CustomResources:
    """Listens to writes of CRDs. A created CRD is established, and its kind served, within the same request."""

    def __init__(self, operations: Operations, registry: TypeRegistry, meta: Schema) -> None:
        self._operations = operations
        self._registry = registry
        self._meta = meta
        self._served: dict[tuple[str, str], str] = {}  # (group, plural) -> name of the CRD
        self._compiled: dict[tuple[str, str], tuple[Any, ...]] = {}  # what was compiled: skip the same again
        operations.after_write.setdefault(CRDS, []).append(self._on_write)

    def restore(self) -> None:
        """Serves the kinds of CRDs that were loaded from a saved state."""
        for stored in list(self._operations.store.collection(CRDS).items()):
            self._serve(stored.body)

    def _on_write(self, resource: ResourceType, after: StoredObject, before: StoredObject | None) -> None:
        body = after.body
        name = body["metadata"]["name"]
        current = self._operations.store.collection(CRDS).get("", name)
        if current is not after:
            if current is None:
                self._stop_serving(body)
            return
        self._serve(body)
        if body["metadata"].get("deletionTimestamp"):
            self._clean_up(resource, name)
        else:
            self._establish(resource, after)

    def _serve(self, body: Object) -> None:
        key = (body["spec"]["group"], body["spec"]["names"]["plural"])
        meta = body["metadata"]
        compiled = (meta["uid"], meta.get("generation"), meta.get("deletionTimestamp"))
        if self._compiled.get(key) == compiled:
            return
        types = resource_types(body, self._meta)
        self._registry.remove(*key)
        for served in types:
            self._registry.add(served)
        self._compiled[key] = compiled
        if key not in self._served:
            self._operations.after_write.setdefault(key, []).append(self._on_custom_write)
        self._served[key] = body["metadata"]["name"]
        self._operations.store.collection(key)

    def _stop_serving(self, body: Object) -> None:
        key = (body["spec"]["group"], body["spec"]["names"]["plural"])
        self._registry.remove(*key)
        self._served.pop(key, None)
        self._compiled.pop(key, None)
        self._operations.after_write.pop(key, None)
        self._operations.store.drop_collection(key)

    def _establish(self, resource: ResourceType, stored: StoredObject) -> None:
        """Writes names, conditions and the cleanup finalizer, once."""
        body = stored.copy()
        body["status"] = _status(body)
        finalizers = body["metadata"].setdefault("finalizers", [])
        if CLEANUP not in finalizers:
            finalizers.append(CLEANUP)
        if body != stored.body:
            updated = self._operations.store.put(CRDS, "", body["metadata"]["name"], body)
            self._operations.notify(resource, updated, stored)

    def _clean_up(self, resource: ResourceType, name: str) -> None:
        """Deletes the custom resources; the CRD itself goes when the last of them has gone."""
        operations = self._operations
        stored = operations.require(resource, "", name)
        key = (stored.body["spec"]["group"], stored.body["spec"]["names"]["plural"])
        if CLEANUP not in (stored.body["metadata"].get("finalizers") or ()):
            return
        served = next((one for one in self._registry if (one.group, one.plural) == key), None)
        if served is not None:
            undeleted = [
                one
                for one in operations.store.collection(key).items()
                if "deletionTimestamp" not in one.body["metadata"]
            ]
            if undeleted:
                delete_collection(operations, served, "", _not_deleted, DeleteOptions())
                return
        self._finish(resource, name, key)

    def _finish(self, resource: ResourceType, name: str, key: tuple[str, str]) -> None:
        operations = self._operations
        stored = operations.store.collection(CRDS).get("", name)
        if stored is None or operations.store.collection(key).count():
            return
        body = stored.copy()
        body["metadata"]["finalizers"].remove(CLEANUP)
        if not body["metadata"]["finalizers"]:
            del body["metadata"]["finalizers"]
        if may_be_removed(body):
            operations.remove(resource, "", name, body)
        else:
            operations.store.put(CRDS, "", name, body)

    def _on_custom_write(self, served: ResourceType, _after: StoredObject, _before: StoredObject | None) -> None:
        name = self._served.get((served.group, served.plural))
        stored = self._operations.store.collection(CRDS).get("", name) if name else None
        if stored is not None and name and stored.body["metadata"].get("deletionTimestamp"):
            definition = self._registry.find("apiextensions.k8s.io", "v1", "customresourcedefinitions")
            if definition is not None and CLEANUP in (stored.body["metadata"].get("finalizers") or ()):
                self._finish(definition, name, (served.group, served.plural))


def _not_deleted(body: Object) -> bool:
    return "deletionTimestamp" not in body["metadata"]


def _status(body: Object) -> Object:
    status: Object = dict(body.get("status") or {})
    stored = [version["name"] for version in body["spec"]["versions"] if version.get("storage")]
    versions = status.get("storedVersions") or []
    status["storedVersions"] = versions + [version for version in stored if version not in versions]
    status["acceptedNames"] = dict(body["spec"]["names"])
    status.setdefault("conditions", _conditions())
    return status


def _conditions() -> list[Object]:
    now = timestamp()
    return [
        {
            "type": "NamesAccepted",
            "status": "True",
            "lastTransitionTime": now,
            "reason": "NoConflicts",
            "message": "no conflicts found",
        },
        {
            "type": "Established",
            "status": "True",
            "lastTransitionTime": now,
            "reason": "InitialNamesAccepted",
            "message": "the initial names have been accepted",
        },
    ]
