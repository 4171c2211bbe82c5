"""Namespaces, config maps, secrets and volume claims."""

import base64
import binascii
from typing import Any

from finetune_local.apiserver.status_error import Cause, forbidden_field, invalid_value, required
from finetune_local.apiserver.string_formats import CONFIG_KEY

Object = dict[str, Any]
NAME_LABEL = "kubernetes.io/metadata.name"
MAX_DATA_BYTES = 1024 * 1024
KEY_MESSAGE = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  "
    "or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)


def default_namespace(new: Object, old: Object | None) -> None:
    new["metadata"].setdefault("labels", {})[NAME_LABEL] = new["metadata"].get("name", "")
    if old is None:
        new["spec"] = {"finalizers": ["kubernetes"]}
        new["status"] = {"phase": "Active"}
    elif "spec" in old:
        # Only the finalize subresource changes the finalizers.
        new["spec"] = old["spec"]


def default_secret(new: Object, _old: Object | None) -> None:
    """stringData is written as data and never read back."""
    texts = new.pop("stringData", None)
    if texts:
        data = new.setdefault("data", {})
        data |= {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}


def default_claim(new: Object, old: Object | None) -> None:
    if old is None:
        new["status"] = {"phase": "Pending"}


def default_volume(new: Object, old: Object | None) -> None:
    if old is None:
        new["status"] = {"phase": "Pending"}


def check_config_map(new: Object, old: Object | None) -> list[Cause]:
    errors = _check_keys(new, ("data", "binaryData"))
    if old is not None and old.get("immutable"):
        errors += _check_unchanged(new, old, ("data", "binaryData"))
    return errors


def check_secret(new: Object, old: Object | None) -> list[Cause]:
    errors = _check_keys(new, ("data",))
    for key, text in (new.get("data") or {}).items():
        try:
            base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            errors.append(invalid_value(f"data[{key}]", "<secret contents redacted>", "must be base64"))
    if old is not None and old.get("immutable"):
        errors += _check_unchanged(new, old, ("data",))
    if old is not None and new.get("type") != old.get("type"):
        errors.append(invalid_value("type", new.get("type"), "field is immutable"))
    return errors


def _check_keys(new: Object, fields: tuple[str, ...]) -> list[Cause]:
    errors = []
    size = 0
    for field in fields:
        for key, value in (new.get(field) or {}).items():
            size += len(value)
            if not CONFIG_KEY.match(key):
                errors.append(invalid_value(f"{field}[{key}]", key, KEY_MESSAGE))
    if size > MAX_DATA_BYTES:
        errors.append(Cause("FieldValueTooLong", f"Too long: may not be more than {MAX_DATA_BYTES} bytes", "[]"))
    return errors


def _check_unchanged(new: Object, old: Object, fields: tuple[str, ...]) -> list[Cause]:
    text = "field is immutable when `immutable` is set"
    errors = [forbidden_field(field, text) for field in fields if new.get(field) != old.get(field)]
    return errors + ([] if new.get("immutable") else [forbidden_field("immutable", text)])


def check_claim(new: Object, old: Object | None) -> list[Cause]:
    spec = new.get("spec") or {}
    errors = []
    if not spec.get("accessModes"):
        errors.append(required("spec.accessModes", "at least 1 access mode is required"))
    if not ((spec.get("resources") or {}).get("requests") or {}).get("storage"):
        errors.append(required("spec.resources[storage]"))
    if old is not None and _fixed(spec) != _fixed(old.get("spec") or {}):
        text = (
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
        )
        errors.append(forbidden_field("spec", text))
    return errors


def _fixed(spec: Object) -> Object:
    """The binder sets volumeName and the storage class of a claim that has none."""
    return {key: value for key, value in spec.items() if key not in ("resources", "volumeName", "storageClassName")}
