"""From a request body to a clean object and back to the version that a client asked for."""

from typing import Any

import orjson

from finetune_local.apiserver.cel_rules import check_rules
from finetune_local.apiserver.decoding import TypedDecoder, prune
from finetune_local.apiserver.defaulting import apply_defaults
from finetune_local.apiserver.resource_type import ResourceType
from finetune_local.apiserver.revision_store import StoredObject
from finetune_local.apiserver.schema import MISSING, Schema
from finetune_local.apiserver.schema_validation import validate
from finetune_local.apiserver.status_error import Cause, bad_request, required

Object = dict[str, Any]
IDENTITY = frozenset(("apiVersion", "kind", "metadata"))


class ObjectCodec:
    """Decoding, defaulting and validation of one server's objects; `meta` is the schema of ObjectMeta."""

    def __init__(self, meta: Schema) -> None:
        self._meta = meta

    def decode(self, resource: ResourceType, body: Any, unknown: list[str]) -> Object:
        """A clean copy of a request's object; unknown fields are dropped and listed."""
        check_identity(resource, body)
        decoder = TypedDecoder(resource.kind, resource.version)
        if not resource.custom:
            decoded: Object = decoder.decode(resource.schema, body)
            decoded.setdefault("metadata", {})
            unknown += decoder.unknown
            return decoded
        decoded = dict(body)
        meta = decoded.get("metadata") or {}
        decoded["metadata"] = decoder.decode(self._meta, meta, "metadata")
        prune(resource.schema, decoded, "", unknown)
        unknown += decoder.unknown
        return decoded

    def decode_patched(self, resource: ResourceType, body: Object, old: Object, unknown: list[str]) -> Object:
        """Like `decode`, for an object that differs little from the stored one: equal sections are taken over."""
        same = [key for key, value in old.items() if key not in IDENTITY and key in body and body[key] == value]
        decoded = self.decode(resource, {key: value for key, value in body.items() if key not in same}, unknown)
        return decoded | {key: old[key] for key in same}

    def default(self, resource: ResourceType, body: Object, old: Object | None) -> None:
        if old is not None and not _changed_sections(body, old):
            return
        apply_defaults(resource.schema, body)
        resource.set_defaults(body, old)

    def check(self, resource: ResourceType, body: Object, old: Object | None) -> list[Cause]:
        """Schema, CEL and the kind's own rules. CEL runs only on what the schema accepts, as on the real server.

        What an update leaves as it was is not judged again.
        """
        changed = _changed_sections(body, old) if old is not None else set(body)
        if not changed:
            return []
        if not resource.custom:
            return self._check_typed(resource, body, old, changed)
        errors = validate(resource.schema, body) if old is None else _check_sections(resource.schema, body, changed)
        if not errors:
            errors = list(check_rules(resource.schema, body, MISSING if old is None else old))
        return errors + resource.check(body, old)

    def _check_typed(self, resource: ResourceType, body: Object, old: Object | None, changed: set[str]) -> list[Cause]:
        """Built-in kinds: statuses are the controllers' own business."""
        if changed <= {"status"}:
            return []
        stated = {key: value for key, value in body.items() if key != "status"}
        found = validate(resource.schema, stated, decoded=True) + resource.check(body, old)
        return list({(error.field, error.reason): error for error in found}.values())


def _check_sections(schema: Schema, body: Object, changed: set[str]) -> list[Cause]:
    """Of an update: what has changed, and whether everything that is required is there."""
    errors = [required(name) for name in schema.required if name not in body]
    for key in sorted(changed & body.keys()):
        child = schema.child(key)
        if child is not None:
            errors += validate(child, body[key], key)
    return errors


def _changed_sections(body: Object, old: Object) -> set[str]:
    """Top-level fields that differ, metadata and identity apart."""
    keys = (body.keys() | old.keys()) - IDENTITY
    return {key for key in keys if body.get(key, MISSING) != old.get(key, MISSING)}


def check_identity(resource: ResourceType, body: Any) -> None:
    """apiVersion and kind of the body must be those of the URL; missing ones are filled in for built-in kinds."""
    if not isinstance(body, dict):
        raise bad_request(f"couldn't get version/kind; json parse error: json: cannot unmarshal {type(body).__name__}")
    if "kind" not in body and "apiVersion" not in body and not resource.custom:
        body["apiVersion"], body["kind"] = resource.api_version, resource.kind
    if not body.get("kind"):
        raise bad_request("Object 'Kind' is missing in '" + orjson.dumps(body).decode()[:200] + "'")
    if body.get("apiVersion") != resource.api_version:
        raise bad_request(
            f"the API version in the data ({body.get('apiVersion')}) does not match the expected API version "
            f"({resource.api_version})"
        )
    if body["kind"] != resource.kind:
        raise bad_request(
            f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: '
            f'no kind "{body["kind"]}" is registered for version "{resource.api_version}"'
        )


def to_storage(resource: ResourceType, body: Object) -> Object:
    """The stored form: the storage version of the kind that owns the objects."""
    body = resource.to_storage(body)
    if resource.custom and resource.storage_version:
        body["apiVersion"] = f"{resource.group}/{resource.storage_version}"
    return body


def is_stored_form(resource: ResourceType) -> bool:
    return resource.storage == ("", "") and resource.storage_version in ("", resource.version)


def view(resource: ResourceType, stored: StoredObject) -> Object:
    """The object in the version of `resource`, for reading only: it may be the stored one itself."""
    return stored.body if is_stored_form(resource) else from_storage(resource, stored)


def from_storage(resource: ResourceType, stored: StoredObject) -> Object:
    """A copy, in the version of `resource`, that the caller may change."""
    body = resource.from_storage(stored.copy())
    body["apiVersion"] = resource.api_version
    body["kind"] = resource.kind
    return body


def present(resource: ResourceType, stored: StoredObject) -> bytes:
    """The JSON that a client of `resource` sees."""
    if is_stored_form(resource):
        return stored.json
    return orjson.dumps(from_storage(resource, stored))
