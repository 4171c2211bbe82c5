"""Strategic merge of pod templates: lists of named things merge by their key, other lists are replaced.

The merge keys are those of the core API's `patchMergeKey` tags. `null` removes a field,
`$patch: delete` an element, `$patch: replace` the whole of an object.
https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md
"""

from typing import Any

MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "resourceClaims": "name",
    "schedulingGates": "name",
}


class MergeError(ValueError):
    """A template that cannot be merged; the message starts with the field path."""


def strategic_merge(base: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """`patch` over `base`; neither is changed. Raises MergeError when the shapes do not fit."""
    return _merge_map(base, patch, "")


def _merge(base: Any, patch: Any, path: str) -> Any:
    if isinstance(patch, dict):
        return _merge_map(base, patch, path)
    if isinstance(patch, list):
        key = MERGE_KEYS.get(path.rsplit(".", 1)[-1])
        return _merge_list(base, patch, key, path) if key else list(patch)
    return patch


def _merge_map(base: Any, patch: dict[str, Any], path: str) -> dict[str, Any]:
    directive = patch.get("$patch")
    fields = {name: value for name, value in patch.items() if name != "$patch"}
    unknown = next((name for name in fields if name.startswith("$")), None)
    if unknown or directive not in (None, "replace", "merge"):
        raise MergeError(f"{path}: {unknown or f'$patch: {directive}'} is not supported here; remove it")
    if base is not None and not isinstance(base, dict):
        raise MergeError(f"{path}: must not be an object")
    merged = {} if directive == "replace" else dict(base or {})
    for name, value in fields.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge(merged.get(name), value, f"{path}.{name}" if path else name)
    return merged


def _merge_list(base: Any, patch: list[Any], key: str, path: str) -> list[Any]:
    if base is not None and not isinstance(base, list):
        raise MergeError(f"{path}: must not be a list")
    merged = {element[key]: element for element in base or ()}
    for index, element in enumerate(patch):
        where = f"{path}[{index}]"
        if not isinstance(element, dict) or key not in element:
            raise MergeError(f"{where}: needs {key}, by which it is merged")
        name = element[key]
        if not isinstance(name, (str, int)):
            raise MergeError(f"{where}.{key}: must be text or a number; got {name!r}")
        if element.get("$patch") == "delete":
            merged.pop(name, None)
        else:
            merged[name] = _merge_map(merged.get(name), element, where)
    return list(merged.values())
