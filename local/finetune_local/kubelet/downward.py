"""The downward API: what a container may learn of its own pod."""

import re
from decimal import ROUND_CEILING, Decimal
from typing import Any

from finetune_operator.kube.quantities import parse_quantity

Object = dict[str, Any]

_SUBSCRIPT = re.compile(r"metadata\.(annotations|labels)\['([^']+)'\]")
_METADATA = ("name", "namespace", "uid")
_SPEC = ("nodeName", "serviceAccountName")
_STATUS = ("hostIP", "podIP")


class FieldError(ValueError):
    """A fieldPath or resource that the downward API does not have."""


def field_value(pod: Object, path: str) -> str:
    """Value of a fieldRef, e.g. `metadata.annotations['batch.kubernetes.io/job-completion-index']`."""
    if match := _SUBSCRIPT.fullmatch(path):
        return str((pod["metadata"].get(match[1]) or {}).get(match[2], ""))
    section, _, name = path.partition(".")
    if section == "metadata" and name in _METADATA:
        return str(pod["metadata"].get(name, ""))
    if section == "metadata" and name in ("annotations", "labels"):
        return _lines(pod["metadata"].get(name) or {})
    if section == "spec" and name in _SPEC:
        return str(pod["spec"].get(name) or ("default" if name == "serviceAccountName" else ""))
    if section == "status" and name in (*_STATUS, "hostIPs", "podIPs"):
        return str(pod.get("status", {}).get(name.removesuffix("s"), ""))
    raise FieldError(f"fieldPath {path!r}: not supported by the downward API")


def _lines(values: dict[str, str]) -> str:
    """As the downward API writes labels and annotations: one `key="value"` a line, sorted."""
    return "\n".join(f'{key}="{_escape(value)}"' for key, value in sorted(values.items()))


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def resource_value(pod: Object, container: str, reference: Object, allocatable: dict[str, str]) -> str:
    """Value of a resourceFieldRef, rounded up to the divisor; a missing limit is what the node has."""
    kind, _, resource = reference["resource"].partition(".")
    if kind not in ("limits", "requests"):
        raise FieldError(f"resource {reference['resource']!r}: must begin with 'limits.' or 'requests.'")
    name = reference.get("containerName") or container
    everyone = [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
    found = next((one for one in everyone if one["name"] == name), None)
    if found is None:
        raise FieldError(f"containerName {name!r}: the pod has no such container")
    resources = found.get("resources", {})
    value = resources.get(kind, {}).get(resource)
    if value is None and kind == "requests":
        value = resources.get("limits", {}).get(resource, 0)
    if value is None:
        value = allocatable.get(resource, 0)
    divisor = parse_quantity(reference.get("divisor") or 1) or Decimal(1)
    return str(int((parse_quantity(value) / divisor).to_integral_value(rounding=ROUND_CEILING)))
