"""metadata: what the server sets, keeps and refuses (k8s.io/apiserver/pkg/registry/rest)."""

import random
import uuid
from datetime import UTC, datetime
from typing import Any

from finetune_local.apiserver.resource_type import ResourceType
from finetune_local.apiserver.status_error import Cause, forbidden_field, invalid_value, required
from finetune_local.apiserver.string_formats import (
    dns_subdomain_error,
    label_value_error,
    qualified_name_error,
)

Object = dict[str, Any]
SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
SERVER_FIELDS = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "selfLink",
)
TOTAL_ANNOTATION_BYTES = 256 * 1024


def timestamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def generated_name(prefix: str) -> str:
    """Five letters that spell no words, after at most 58 letters of prefix."""
    return prefix[:58] + "".join(random.choices(SUFFIX_LETTERS, k=5))


def prepare_create(resource: ResourceType, body: Object, namespace: str) -> None:
    """Sets name, namespace, uid, generation and creation time in place."""
    meta = body["metadata"]
    for field in (*SERVER_FIELDS, "resourceVersion", "managedFields"):
        meta.pop(field, None)
    if not meta.get("name") and meta.get("generateName"):
        meta["name"] = generated_name(meta["generateName"])
    if resource.namespaced:
        meta["namespace"] = namespace
    else:
        meta.pop("namespace", None)
    meta["uid"] = str(uuid.uuid4())
    meta["creationTimestamp"] = timestamp()
    if resource.has_generation:
        meta["generation"] = 1


def prepare_update(resource: ResourceType, body: Object, old: Object) -> None:
    """Server-owned fields keep their stored values, whatever the request says."""
    meta, before = body["metadata"], old["metadata"]
    for field in SERVER_FIELDS:
        if field in before:
            meta[field] = before[field]
        else:
            meta.pop(field, None)
    if resource.namespaced:
        meta["namespace"] = before.get("namespace", "")
    else:
        meta.pop("namespace", None)
    for field in ("labels", "annotations", "finalizers", "ownerReferences"):
        if field in meta and not meta[field]:
            del meta[field]


def bump_generation(resource: ResourceType, body: Object, old: Object) -> None:
    """The generation counts changes of the desired state: everything but metadata and, with a subresource, status."""
    if not resource.has_generation:
        return
    skipped = {"metadata", "apiVersion", "kind"} | ({"status"} if resource.status_subresource else set())
    changed = any(body.get(key) != old.get(key) for key in body.keys() | old.keys() if key not in skipped)
    if changed:
        body["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1


def check_meta(resource: ResourceType, body: Object) -> list[Cause]:
    meta = body["metadata"]
    errors = _check_name(resource, meta)
    errors += _check_labels(meta)
    errors += _check_annotations(meta)
    errors += _check_owners(meta)
    for index, finalizer in enumerate(meta.get("finalizers") or ()):
        error = qualified_name_error(finalizer)
        if error:
            errors.append(invalid_value(f"metadata.finalizers[{index}]", finalizer, error))
    return errors


def _check_name(resource: ResourceType, meta: Object) -> list[Cause]:
    name = meta.get("name")
    if not name:
        return [required("metadata.name", "name or generateName is required")]
    error = (resource.name_error or dns_subdomain_error)(name)
    return [invalid_value("metadata.name", name, error)] if error else []


def _check_labels(meta: Object) -> list[Cause]:
    errors = []
    for key, value in (meta.get("labels") or {}).items():
        if error := qualified_name_error(key):
            errors.append(invalid_value("metadata.labels", key, error))
        if error := label_value_error(value):
            errors.append(invalid_value("metadata.labels", value, error))
    return errors


def _check_annotations(meta: Object) -> list[Cause]:
    annotations = meta.get("annotations") or {}
    errors = [
        invalid_value("metadata.annotations", key, error)
        for key in annotations
        if (error := qualified_name_error(key.lower()))
    ]
    if sum(len(key) + len(value) for key, value in annotations.items()) > TOTAL_ANNOTATION_BYTES:
        errors.append(Cause("FieldValueTooLong", "Too long: may not be more than 262144 bytes", "metadata.annotations"))
    return errors


def _check_owners(meta: Object) -> list[Cause]:
    errors = []
    controllers = []
    for index, owner in enumerate(meta.get("ownerReferences") or ()):
        path = f"metadata.ownerReferences[{index}]"
        errors += [
            invalid_value(f"{path}.{field}", "", "must not be empty")
            for field in ("apiVersion", "kind", "name", "uid")
            if not owner.get(field)
        ]
        if owner.get("controller"):
            controllers.append(owner.get("name"))
    if len(controllers) > 1:
        names = " and ".join(controllers)
        text = f'Only one reference can have Controller set to true. Found "true" in references for {names}'
        errors.append(invalid_value("metadata.ownerReferences", [], text))
    return errors


def check_meta_update(body: Object, old: Object) -> list[Cause]:
    """Names never change; a deleted object takes no new finalizers."""
    meta, before = body["metadata"], old["metadata"]
    errors = []
    if meta.get("name") != before.get("name"):
        errors.append(invalid_value("metadata.name", meta.get("name"), "field is immutable"))
    if before.get("deletionTimestamp"):
        added = sorted(set(meta.get("finalizers") or ()) - set(before.get("finalizers") or ()))
        if added:
            text = (
                "no new finalizers can be added if the object is being deleted, "
                f'found new finalizers []string{{"{added[0]}"}}'
            )
            errors.append(forbidden_field("metadata.finalizers", text))
    return errors
