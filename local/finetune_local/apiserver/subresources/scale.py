"""The scale subresource: one shape (autoscaling/v1 Scale) over every kind that has replicas."""

from typing import Any

import orjson

from finetune_local.apiserver import object_codec
from finetune_local.apiserver.operations import APPLY_PATCH, Operations, apply_patch
from finetune_local.apiserver.request_options import WriteOptions
from finetune_local.apiserver.resource_type import ResourceType
from finetune_local.apiserver.status_error import bad_request, invalid, invalid_value, no_such_path, stale_write
from finetune_local.apiserver.tables.builtin_rows import NONE, labels_text
from finetune_local.apiserver.tables.json_path import find

Object = dict[str, Any]
SCALE_TYPE = ResourceType(group="autoscaling", version="v1", kind="Scale", plural="scale", definition="V1Scale")


def get_scale(operations: Operations, resource: ResourceType, namespace: str, name: str) -> Object:
    return _scale_of(resource, object_codec.from_storage(resource, operations.require(resource, namespace, name)))


def _scale_of(resource: ResourceType, body: Object) -> Object:
    paths = resource.scale
    if paths is None:
        raise no_such_path()
    meta = body["metadata"]
    status: Object = {"replicas": (find(body, paths.status_replicas) or [0])[0] or 0}
    if selector := _selector(body, paths.label_selector):
        status["selector"] = selector
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: meta[key] for key in kept if key in meta},
        "spec": {"replicas": (find(body, paths.spec_replicas) or [0])[0] or 0},
        "status": status,
    }


def _selector(body: Object, path: str) -> str:
    """Custom resources keep it as text at a path of their own; built-in workloads have spec.selector."""
    found = find(body, path) if path else []
    if found and isinstance(found[0], str):
        return found[0]
    selector = (body.get("spec") or {}).get("selector") or {}
    text = labels_text(selector.get("matchLabels")) if isinstance(selector, dict) else NONE
    return "" if text == NONE else text


def replace_scale(
    operations: Operations, resource: ResourceType, namespace: str, name: str, scale: Any, options: WriteOptions
) -> Object:
    """PUT: writes spec.replicas of the object, guarded by its resourceVersion if the Scale carries one."""
    current = get_scale(operations, resource, namespace, name)
    replicas = (scale.get("spec") or {}).get("replicas", 0) if isinstance(scale, dict) else None
    if isinstance(replicas, bool) or not isinstance(replicas, int):
        raise bad_request("Scale.spec.replicas must be an integer")
    if replicas < 0:
        text = "must be greater than or equal to 0"
        raise invalid("autoscaling", "Scale", name, [invalid_value("spec.replicas", replicas, text)])
    version = (scale.get("metadata") or {}).get("resourceVersion")
    if version and version != current["metadata"]["resourceVersion"]:
        raise stale_write(resource.group, resource.plural, name)
    patch = _nested(resource.scale.spec_replicas if resource.scale else "", replicas)
    operations.patch(resource, namespace, name, patch, "application/merge-patch+json", options)
    return get_scale(operations, resource, namespace, name)


def patch_scale(
    operations: Operations,
    resource: ResourceType,
    namespace: str,
    name: str,
    patch: Any,
    patch_type: str,
    options: WriteOptions,
) -> Object:
    current = get_scale(operations, resource, namespace, name)
    kind = (
        "application/merge-patch+json"
        if patch_type in (APPLY_PATCH, "application/strategic-merge-patch+json")
        else patch_type
    )
    patched = apply_patch(SCALE_TYPE, orjson.loads(orjson.dumps(current)), patch, kind)
    return replace_scale(operations, resource, namespace, name, patched, options)


def _nested(path: str, value: Any) -> Object:
    for key in reversed(path.strip(".").split(".")):
        value = {key: value}
    patch: Object = value
    return patch
