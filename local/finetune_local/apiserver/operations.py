"""Create, update, patch and apply: the order of checks of k8s.io/apiserver's generic registry."""

from collections.abc import Callable
from typing import Any

from finetune_local.apiserver import object_codec
from finetune_local.apiserver.deletion import may_be_removed
from finetune_local.apiserver.fields import managed_fields, server_side_apply
from finetune_local.apiserver.fields.managed_fields import Manager
from finetune_local.apiserver.namespace_admission import check_namespace
from finetune_local.apiserver.object_codec import ObjectCodec
from finetune_local.apiserver.object_meta import (
    bump_generation,
    check_meta,
    check_meta_update,
    generated_name,
    prepare_create,
    prepare_update,
)
from finetune_local.apiserver.patches.json_merge import merge
from finetune_local.apiserver.patches.json_patch import apply_json_patch
from finetune_local.apiserver.patches.strategic_merge import strategic_merge
from finetune_local.apiserver.request_options import WriteOptions
from finetune_local.apiserver.resource_type import ResourceType
from finetune_local.apiserver.revision_store import RevisionStore, StoredObject
from finetune_local.apiserver.status_error import (
    StatusError,
    already_exists,
    bad_request,
    conflict,
    invalid,
    invalid_value,
    not_found,
    stale_write,
    unsupported_media_type,
)
from finetune_local.apiserver.webhooks.question import Operation, Phase, Question

Object = dict[str, Any]
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
PATCH_TYPES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH)
NAME_ATTEMPTS = 8
Listener = Callable[[ResourceType, StoredObject, StoredObject | None], None]


class Operations:
    """Writes. Each call is one atomic step: nothing in it awaits."""

    def __init__(self, store: RevisionStore, codec: ObjectCodec) -> None:
        self.store = store
        self.codec = codec
        # Called after each write with (resource, after, before); `before` is None for a creation.
        self.after_write: dict[tuple[str, str], list[Listener]] = {}

    def create(self, resource: ResourceType, namespace: str, body: Any, options: WriteOptions) -> StoredObject:
        options.check()
        unknown: list[str] = []
        decoded = self.codec.decode(resource, body, unknown)
        options.report_unknown_fields(unknown)
        _check_scope(resource, decoded, namespace)
        check_namespace(self.store, resource, namespace, decoded)
        decoded = self._mutated_new(resource, namespace, decoded, options)
        prefix = "" if decoded["metadata"].get("name") else decoded["metadata"].get("generateName", "")
        prepare_create(resource, decoded, namespace)
        self._complete_new(resource, decoded)
        name = decoded["metadata"]["name"]
        for _ in range(NAME_ATTEMPTS if prefix else 0):
            if self._stored(resource, namespace, name) is None:
                break
            name = decoded["metadata"]["name"] = generated_name(prefix)
        if self._stored(resource, namespace, name) is not None:
            raise already_exists(resource.group, resource.plural, name)
        manager = Manager(options.manager, "Update", resource.api_version)
        managed_fields.track_update(resource.schema, None, decoded, manager)
        admitted = consented("validating", resource, "", namespace, name, decoded, None, options)
        return self._write(resource, namespace, admitted["metadata"]["name"], admitted, None, options)

    def _mutated_new(self, resource: ResourceType, namespace: str, body: Object, options: WriteOptions) -> Object:
        """What mutating webhooks make of a new object: they see it with its defaults, before the server names it."""
        if options.admission is None:
            return body
        self.codec.default(resource, body, None)
        meta = body["metadata"]
        mutated = consented("mutating", resource, "", namespace, meta.get("name", ""), body, None, options)
        return self.codec.decode(resource, mutated, [])

    def _complete_new(self, resource: ResourceType, body: Object) -> None:
        if resource.status_subresource and not resource.keeps_new_status:
            body.pop("status", None)
        self.codec.default(resource, body, None)
        errors = check_meta(resource, body) + self.codec.check(resource, body, None)
        if errors:
            meta = body["metadata"]
            raise invalid(resource.group, resource.kind, meta.get("name") or meta.get("generateName", ""), errors)

    def update(
        self,
        resource: ResourceType,
        namespace: str,
        name: str,
        body: Any,
        options: WriteOptions,
        subresource: str = "",
    ) -> StoredObject:
        options.check()
        unknown: list[str] = []
        decoded = self.codec.decode(resource, body, unknown)
        options.report_unknown_fields(unknown)
        _check_scope(resource, decoded, namespace)
        if decoded["metadata"].get("name", name) != name:
            stated = decoded["metadata"]["name"]
            raise bad_request(f"the name of the object ({stated}) does not match the name on the URL ({name})")
        stored = self.require(resource, namespace, name)
        if not decoded["metadata"].get("resourceVersion") and resource.custom:
            text = "must be specified for an update"
            raise invalid(resource.group, resource.kind, name, [invalid_value("metadata.resourceVersion", 0, text)])
        return self._replace(resource, stored, decoded, options, subresource)

    def patch(
        self,
        resource: ResourceType,
        namespace: str,
        name: str,
        patch: Any,
        patch_type: str,
        options: WriteOptions,
        subresource: str = "",
    ) -> tuple[StoredObject, bool]:
        """The stored object, and whether it was created (by an apply)."""
        options.check()
        if patch_type == APPLY_PATCH:
            return self._apply(resource, namespace, name, patch, options, subresource)
        stored = self.require(resource, namespace, name)
        current = object_codec.from_storage(resource, stored)
        patched = apply_patch(resource, current, patch, patch_type)
        unknown: list[str] = []
        old = object_codec.view(resource, stored)
        decoded = self.codec.decode_patched(resource, patched, old, unknown)
        options.report_unknown_fields(unknown)
        return self._replace(resource, stored, decoded, options, subresource), False

    def _apply(
        self,
        resource: ResourceType,
        namespace: str,
        name: str,
        body: Any,
        options: WriteOptions,
        subresource: str,
    ) -> tuple[StoredObject, bool]:
        options.check_apply()
        applied = self._decode_applied(resource, namespace, name, body)
        stored = self._stored(resource, namespace, name)
        if stored is None and (subresource or applied["metadata"].get("uid")):
            raise not_found(resource.group, resource.plural, name)
        live = object_codec.view(resource, stored) if stored else None
        manager = Manager(options.field_manager, "Apply", resource.api_version, subresource)
        claimed = _claimable(resource, applied, subresource)
        merged = server_side_apply.apply(resource.schema, live, claimed, manager, options.force)
        if stored is None:
            return self._create_applied(resource, namespace, name, merged, options), True
        if version := applied["metadata"].get("resourceVersion"):
            merged["metadata"]["resourceVersion"] = version
        return self._replace(resource, stored, merged, options, subresource, tracked=True), False

    def _decode_applied(self, resource: ResourceType, namespace: str, name: str, body: Any) -> Object:
        unknown: list[str] = []
        applied = self.codec.decode(resource, body, unknown)
        if unknown:
            raise StatusError(
                500,
                "InternalError",
                f"failed to create typed patch object ({namespace}/{name}; {resource.api_version}, "
                f"Kind={resource.kind}): " + ", ".join(f".{path}: field not declared in schema" for path in unknown),
            )
        meta = applied["metadata"]
        if meta.get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        if meta.setdefault("name", name) != name:
            raise bad_request(f"the name of the object ({meta['name']}) does not match the name on the URL ({name})")
        _check_scope(resource, applied, namespace)
        return applied

    def _create_applied(
        self, resource: ResourceType, namespace: str, name: str, merged: Object, options: WriteOptions
    ) -> StoredObject:
        check_namespace(self.store, resource, namespace, merged)
        fields = merged["metadata"].pop("managedFields")
        merged = self._mutated_new(resource, namespace, merged, options)
        prepare_create(resource, merged, namespace)
        self._complete_new(resource, merged)
        merged["metadata"]["managedFields"] = fields
        merged = consented("validating", resource, "", namespace, name, merged, None, options)
        return self._write(resource, namespace, name, merged, None, options)

    def _replace(
        self,
        resource: ResourceType,
        stored: StoredObject,
        new: Object,
        options: WriteOptions,
        subresource: str,
        tracked: bool = False,
    ) -> StoredObject:
        """Everything that PUT, PATCH and apply have in common once the wanted object is known."""
        _check_preconditions(resource, stored, new)
        old = object_codec.view(resource, stored)
        new = self._mutated(resource, old, new, options, subresource)
        new = _isolate(resource, old, new, subresource)
        prepare_update(resource, new, old)
        self.codec.default(resource, new, old)
        bump_generation(resource, new, old)
        errors = check_meta_update(new, old) + check_meta(resource, new) + self.codec.check(resource, new, old)
        name = old["metadata"]["name"]
        if errors:
            raise invalid(resource.group, resource.kind, name, errors)
        if not tracked:
            manager = Manager(options.manager, "Update", resource.api_version, subresource)
            managed_fields.track_update(resource.schema, old, new, manager)
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        if new == old:
            return stored
        namespace = old["metadata"].get("namespace", "")
        new = consented("validating", resource, subresource, namespace, name, new, old, options)
        if may_be_removed(new) and not options.dry_run:
            return self.remove(resource, namespace, name, object_codec.to_storage(resource, new))
        return self._write(resource, namespace, name, new, stored, options)

    def _mutated(
        self, resource: ResourceType, old: Object, new: Object, options: WriteOptions, subresource: str
    ) -> Object:
        if options.admission is None:
            return new
        self.codec.default(resource, new, old)
        meta = old["metadata"]
        namespace = meta.get("namespace", "")
        mutated = consented("mutating", resource, subresource, namespace, meta["name"], new, old, options)
        return self.codec.decode(resource, mutated, [])

    def _write(
        self,
        resource: ResourceType,
        namespace: str,
        name: str,
        body: Object,
        before: StoredObject | None,
        options: WriteOptions,
    ) -> StoredObject:
        body = object_codec.to_storage(resource, body)
        if options.dry_run:
            return StoredObject(body, before.revision if before else 0)
        stored = self.store.put(resource.key, namespace if resource.namespaced else "", name, body)
        self.notify(resource, stored, before)
        return stored

    def remove(self, resource: ResourceType, namespace: str, name: str, last: Object) -> StoredObject:
        """Takes an object out of the store; `last` is what watchers see."""
        removed = self.store.remove(resource.key, namespace if resource.namespaced else "", name, last)
        self.notify(resource, removed, removed)
        return removed

    def notify(self, resource: ResourceType, after: StoredObject, before: StoredObject | None) -> None:
        for listener in self.after_write.get(resource.key, ()):
            listener(resource, after, before)

    def _stored(self, resource: ResourceType, namespace: str, name: str) -> StoredObject | None:
        return self.store.collection(resource.key).get(namespace if resource.namespaced else "", name)

    def require(self, resource: ResourceType, namespace: str, name: str) -> StoredObject:
        stored = self._stored(resource, namespace, name)
        if stored is None:
            raise not_found(resource.group, resource.plural, name)
        return stored


def apply_patch(resource: ResourceType, current: Object, patch: Any, patch_type: str) -> Object:
    """The patched object; `current` may be changed in place."""
    if patch_type == JSON_PATCH:
        patched = apply_json_patch(current, patch)
    elif patch_type in (MERGE_PATCH, STRATEGIC_PATCH) and not isinstance(patch, dict):
        raise bad_request("json: cannot unmarshal the patch into Go value of type map[string]interface {}")
    elif patch_type == MERGE_PATCH:
        patched = merge(current, patch)
    elif patch_type == STRATEGIC_PATCH and not resource.custom:
        patched = strategic_merge(resource.schema, current, patch)
    else:
        supported = [kind for kind in PATCH_TYPES if not (resource.custom and kind == STRATEGIC_PATCH)]
        raise unsupported_media_type(patch_type, supported)
    if not isinstance(patched, dict) or not isinstance(patched.get("metadata"), dict):
        raise invalid(resource.group, resource.kind, "", [invalid_value("metadata", "", "must be an object")])
    return patched


def consented(
    phase: Phase,
    resource: ResourceType,
    subresource: str,
    namespace: str,
    name: str,
    new: Object,
    old: Object | None,
    options: WriteOptions,
) -> Object:
    """What the webhooks of this phase make of a write, or leave of it. Raises Unanswered when they must be asked."""
    if options.admission is None:
        return new
    operation: Operation = "UPDATE" if old is not None else "CREATE"
    question = Question(
        phase, operation, resource, subresource, namespace, name, new, old, options.user, options.dry_run,
        options.manager,
    )  # fmt: skip
    return options.admission.ask(question) or new


def _check_scope(resource: ResourceType, body: Object, namespace: str) -> None:
    stated = body["metadata"].get("namespace")
    if resource.namespaced and stated and stated != namespace:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")


def _check_preconditions(resource: ResourceType, stored: StoredObject, new: Object) -> None:
    meta, current = new["metadata"], stored.body["metadata"]
    version, uid = meta.get("resourceVersion"), meta.get("uid")
    if version and version != current["resourceVersion"]:
        raise stale_write(resource.group, resource.plural, current["name"])
    if uid and uid != current["uid"]:
        text = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {current['uid']}"
        raise conflict(resource.group, resource.plural, current["name"], text)


def _isolate(resource: ResourceType, old: Object, new: Object, subresource: str) -> Object:
    """A status write changes status alone, any other write leaves it alone. Shares the unchanged parts of `old`."""
    kept, written = (old, new) if subresource == "status" else (new, old)
    isolated = dict(kept)
    isolated["metadata"] = dict(kept["metadata"])
    if subresource != "status" and not resource.status_subresource:
        return isolated
    isolated.pop("status", None)
    if "status" in written:
        isolated["status"] = written["status"]
    if subresource == "status" and "managedFields" in new["metadata"]:
        isolated["metadata"]["managedFields"] = new["metadata"]["managedFields"]
    return isolated


def _claimable(resource: ResourceType, applied: Object, subresource: str) -> Object:
    """The part of an apply body that its endpoint may change."""
    identity = {key: applied[key] for key in ("apiVersion", "kind", "metadata")}
    if subresource == "status":
        return identity | {"metadata": {"name": applied["metadata"]["name"]}} | _only(applied, "status")
    if resource.status_subresource:
        return {key: value for key, value in applied.items() if key != "status"}
    return applied


def _only(body: Object, key: str) -> Object:
    return {key: body[key]} if key in body else {}
