"""Strategic merge patch of built-in kinds: objects merge, keyed lists merge by their key, `$patch` directives steer.

https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md
"""

from typing import Any

from finetune_local.apiserver.schema import FREE_FORM, Schema
from finetune_local.apiserver.status_error import bad_request

PATCH = "$patch"
RETAIN_KEYS = "$retainKeys"
DELETE_FROM_LIST = "$deleteFromPrimitiveList/"
SET_ORDER = "$setElementOrder/"


def strategic_merge(schema: Schema, target: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """`target` patched, in place where possible. Raises BadRequest for malformed directives."""
    directive = patch.get(PATCH)
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != PATCH}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise bad_request(f"Unknown patch type: {directive}")
    _retain_keys(target, patch)
    for key, value in patch.items():
        if not key.startswith("$"):
            _merge_key(schema.child(key) or FREE_FORM, target, key, value)
    _list_directives(schema, target, patch)
    return target


def _retain_keys(target: dict[str, Any], patch: dict[str, Any]) -> None:
    if RETAIN_KEYS not in patch:
        return
    for key in set(target) - set(patch[RETAIN_KEYS]):
        del target[key]


def _merge_key(schema: Schema, target: dict[str, Any], key: str, value: Any) -> None:
    current = target.get(key)
    if value is None:
        target.pop(key, None)
    elif isinstance(value, dict):
        target[key] = strategic_merge(schema, current if isinstance(current, dict) else {}, value)
    elif isinstance(value, list) and isinstance(current, list) and "merge" in schema.patch_strategy:
        target[key] = _merge_list(schema, current, value)
    elif isinstance(value, list) and "merge" in schema.patch_strategy:
        target[key] = _merge_list(schema, [], value)
    else:
        target[key] = value


def _merge_list(schema: Schema, current: list[Any], patch: list[Any]) -> list[Any]:
    key = schema.patch_merge_key
    if not key:
        return current + [item for item in patch if item not in current]
    if any(isinstance(item, dict) and item.get(PATCH) == "replace" for item in patch):
        return [item for item in patch if item.get(PATCH) != "replace"]
    merged = list(current)
    for item in patch:
        _merge_item(schema.items or FREE_FORM, key, merged, item)
    return merged


def _merge_item(schema: Schema, key: str, merged: list[Any], item: Any) -> None:
    if not isinstance(item, dict) or key not in item:
        raise bad_request(f"map: {item} does not contain declared merge key: {key}")
    index = next((at for at, other in enumerate(merged) if other.get(key) == item[key]), None)
    if item.get(PATCH) == "delete":
        if index is not None:
            merged[:] = [other for other in merged if other.get(key) != item[key]]
    elif index is None:
        merged.append(strategic_merge(schema, {}, item))
    else:
        merged[index] = strategic_merge(schema, merged[index], item)


def _list_directives(schema: Schema, target: dict[str, Any], patch: dict[str, Any]) -> None:
    for directive, value in patch.items():
        if directive.startswith(DELETE_FROM_LIST):
            key = directive.removeprefix(DELETE_FROM_LIST)
            target[key] = [item for item in target.get(key, []) if item not in value]
    for directive, value in patch.items():
        if directive.startswith(SET_ORDER):
            key = directive.removeprefix(SET_ORDER)
            if isinstance(target.get(key), list):
                target[key] = _ordered(schema.child(key) or FREE_FORM, target[key], value)


def _ordered(schema: Schema, items: list[Any], order: list[Any]) -> list[Any]:
    """Items named by the order come in that order; items that only the server knows keep their places."""
    key = schema.patch_merge_key
    wanted = [item.get(key) if isinstance(item, dict) else item for item in order]

    def identity(item: Any) -> Any:
        return item.get(key) if isinstance(item, dict) else item

    ranked = sorted((item for item in items if identity(item) in wanted), key=lambda item: wanted.index(identity(item)))
    following = iter(ranked)
    return [next(following) if identity(item) in wanted else item for item in items]
