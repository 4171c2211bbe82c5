"""Defaults and validation of pod specs, wherever they stand (pkg/apis/core/v1/defaults.go and validation.go)."""

from collections.abc import Iterator
from typing import Any

from finetune_local.apiserver.builtin.catalog import compiler
from finetune_local.apiserver.defaulting import apply_defaults
from finetune_local.apiserver.status_error import (
    Cause,
    duplicate_value,
    forbidden_field,
    invalid_value,
    required,
)
from finetune_local.apiserver.string_formats import dns_label_error
from finetune_operator.kube.quantities import parse_quantity

Object = dict[str, Any]
CONTAINER_LISTS = ("initContainers", "containers")
# Fields of a running pod that may change.
MUTABLE_FIELDS = ("activeDeadlineSeconds", "terminationGracePeriodSeconds", "tolerations", "schedulingGates")
MUTATION_MESSAGE = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def default_pod_spec(spec: Object) -> None:
    """In place: schema defaults, image pull policies, and requests that follow from limits."""
    apply_defaults(compiler().named("V1PodSpec"), spec)
    if spec.get("serviceAccountName"):
        spec.setdefault("serviceAccount", spec["serviceAccountName"])
    for container in _containers(spec):
        container.setdefault("imagePullPolicy", _pull_policy(container.get("image", "")))
        resources = container.setdefault("resources", {})
        if resources.get("limits"):
            resources["requests"] = dict(resources["limits"]) | (resources.get("requests") or {})
    if spec.get("hostNetwork"):
        for container in _containers(spec):
            for port in container.get("ports") or ():
                port.setdefault("hostPort", port.get("containerPort"))


def _containers(spec: Object) -> Iterator[Object]:
    for key in CONTAINER_LISTS:
        yield from spec.get(key) or ()


def _pull_policy(image: str) -> str:
    """Always for the latest tag, which an image without tag and digest has."""
    name = image.rpartition("/")[2]
    tagged = "@" in image or (":" in name and not name.endswith(":latest"))
    return "IfNotPresent" if tagged else "Always"


def default_template(spec: Object) -> None:
    """The pod template of a workload: present, with a spec, and defaulted."""
    template = spec.setdefault("template", {})
    template.setdefault("metadata", {})
    default_pod_spec(template.setdefault("spec", {}))


def check_pod_spec(spec: Object, path: str) -> list[Cause]:
    errors = []
    if not spec.get("containers"):
        errors.append(required(f"{path}.containers"))
    volumes = [volume.get("name", "") for volume in spec.get("volumes") or ()]
    errors += _check_volumes(spec, path)
    seen: set[str] = set()
    for key in CONTAINER_LISTS:
        for index, container in enumerate(spec.get(key) or ()):
            where = f"{path}.{key}[{index}]"
            errors += _check_container(container, where, volumes)
            name = container.get("name", "")
            if name and name in seen:
                errors.append(duplicate_value(f"{where}.name", name))
            seen.add(name)
    for field in ("hostname", "subdomain"):
        if spec.get(field) and (text := dns_label_error(spec[field])):
            errors.append(invalid_value(f"{path}.{field}", spec[field], text))
    return errors


def _check_volumes(spec: Object, path: str) -> Iterator[Cause]:
    names: set[str] = set()
    for index, volume in enumerate(spec.get("volumes") or ()):
        where, name = f"{path}.volumes[{index}]", volume.get("name", "")
        if not name:
            yield required(f"{where}.name")
        elif text := dns_label_error(name):
            yield invalid_value(f"{where}.name", name, text)
        elif name in names:
            yield duplicate_value(f"{where}.name", name)
        names.add(name)
        sources = [key for key in volume if key != "name"]
        if len(sources) > 1:
            yield forbidden_field(f"{where}.{sources[1]}", "may not specify more than 1 volume type")
        if not sources:
            volume["emptyDir"] = {}


def _check_container(container: Object, path: str, volumes: list[str]) -> Iterator[Cause]:
    name = container.get("name", "")
    if not name:
        yield required(f"{path}.name")
    elif text := dns_label_error(name):
        yield invalid_value(f"{path}.name", name, text)
    if not container.get("image"):
        yield required(f"{path}.image")
    for index, variable in enumerate(container.get("env") or ()):
        if not variable.get("name"):
            yield required(f"{path}.env[{index}].name")
        if variable.get("value") and variable.get("valueFrom"):
            text = "may not be specified when `value` is not empty"
            yield invalid_value(f"{path}.env[{index}].valueFrom", "", text)
    yield from _check_resources(container.get("resources") or {}, f"{path}.resources")
    yield from _check_mounts(container, path, volumes)
    yield from _check_ports(container, path)


def _check_resources(resources: Object, path: str) -> Iterator[Cause]:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for field, amounts in (("limits", limits), ("requests", requests)):
        for name, amount in amounts.items():
            if parse_quantity(amount) < 0:
                yield invalid_value(f"{path}.{field}[{name}]", amount, "must be greater than or equal to 0")
    for name in requests.keys() & limits.keys():
        if parse_quantity(requests[name]) > parse_quantity(limits[name]):
            text = f"must be less than or equal to {name} limit of {limits[name]}"
            yield invalid_value(f"{path}.requests", requests[name], text)


def _check_mounts(container: Object, path: str, volumes: list[str]) -> Iterator[Cause]:
    paths: set[str] = set()
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        where = f"{path}.volumeMounts[{index}]"
        if mount.get("name") not in volumes:
            yield Cause("FieldValueNotFound", f'Not found: "{mount.get("name", "")}"', f"{where}.name")
        target = mount.get("mountPath", "")
        if not target:
            yield required(f"{where}.mountPath")
        elif target in paths:
            yield invalid_value(f"{where}.mountPath", target, "must be unique")
        paths.add(target)


def _check_ports(container: Object, path: str) -> Iterator[Cause]:
    for index, port in enumerate(container.get("ports") or ()):
        number = port.get("containerPort", 0)
        if not 1 <= number <= 65535:
            text = "must be between 1 and 65535, inclusive"
            yield invalid_value(f"{path}.ports[{index}].containerPort", number, text)


def check_template(spec: Object, labels_selector: Object | None, path: str = "spec.template") -> list[Cause]:
    """Of a workload: a valid pod spec whose labels the selector selects."""
    template = spec.get("template") or {}
    errors = check_pod_spec(template.get("spec") or {}, f"{path}.spec")
    labels = (template.get("metadata") or {}).get("labels") or {}
    wanted = (labels_selector or {}).get("matchLabels") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        errors.append(invalid_value(f"{path}.metadata.labels", labels, "`selector` does not match template `labels`"))
    return errors


def default_pod(new: Object, old: Object | None) -> None:
    spec = new.setdefault("spec", {})
    default_pod_spec(spec)
    spec.setdefault("enableServiceLinks", True)
    spec.setdefault("serviceAccountName", "default")
    spec.setdefault("serviceAccount", spec["serviceAccountName"])
    if old is None:
        new["status"] = {"phase": "Pending", "qosClass": qos_class(spec)}


def qos_class(spec: Object) -> str:
    """Guaranteed when every container's limits equal its requests for cpu and memory; BestEffort when none has any."""
    resources = [container.get("resources") or {} for container in _containers(spec)]
    if not any(one.get("limits") or one.get("requests") for one in resources):
        return "BestEffort"
    guaranteed = all(
        (one.get("limits") or {}).get(name)
        and (one.get("limits") or {}).get(name) == (one.get("requests") or {}).get(name)
        for one in resources
        for name in ("cpu", "memory")
    )
    return "Guaranteed" if guaranteed else "Burstable"


def check_pod(new: Object, old: Object | None) -> list[Cause]:
    errors = check_pod_spec(new["spec"], "spec")
    if old is not None and _fixed_part(new["spec"]) != _fixed_part(old["spec"]):
        errors.append(forbidden_field("spec", MUTATION_MESSAGE))
    return errors


def _fixed_part(spec: Object) -> Object:
    fixed = {key: value for key, value in spec.items() if key not in MUTABLE_FIELDS}
    for key in CONTAINER_LISTS:
        if key in fixed:
            fixed[key] = [container | {"image": ""} for container in fixed[key]]
    return fixed
