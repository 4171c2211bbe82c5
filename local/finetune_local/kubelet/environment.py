"""Environment, command and arguments of a container, resolved as Kubernetes does it."""

import base64
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from finetune_local.kubelet.downward import FieldError, field_value, resource_value

Object = dict[str, Any]

INHERITED = (
    *("HOME", "USER", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)
"""What of the host's environment a container sees: an image would bring the like."""

_REFERENCE = re.compile(r"\$\$|\$\(([^()$]+)\)")


class ConfigError(Exception):
    """The container cannot be configured: waiting reason CreateContainerConfigError."""


@dataclass(frozen=True)
class Sources:
    """ConfigMaps and Secrets of the pod's namespace, by name, and its Services."""

    config_maps: Mapping[str, Object] = field(default_factory=dict)
    secrets: Mapping[str, Object] = field(default_factory=dict)
    services: tuple[Object, ...] = ()
    allocatable: dict[str, str] = field(default_factory=dict)


def expand(text: str, values: Mapping[str, str]) -> str:
    """Kubernetes' `$(NAME)` expansion: unknown names stay as they are, `$$` is one dollar sign."""

    def replacement(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return values.get(match[1], match[0])

    return _REFERENCE.sub(replacement, text)


def referenced(containers: Iterable[Object], key: str) -> set[str]:
    """Names of the ConfigMaps (`key="configMap"`) or Secrets (`"secret"`) that the containers' env needs."""
    names = set()
    for container in containers:
        for source in container.get("envFrom") or []:
            if f"{key}Ref" in source:
                names.add(source[f"{key}Ref"]["name"])
        for variable in container.get("env") or []:
            reference = (variable.get("valueFrom") or {}).get(f"{key}KeyRef")
            if reference:
                names.add(reference["name"])
    return names


def container_environment(pod: Object, container: Object, sources: Sources) -> dict[str, str]:
    """Variables of `envFrom` and `env`; later ones win, `env` may refer to earlier ones by `$(NAME)`."""
    values = _service_links(pod, sources.services)
    for source in container.get("envFrom") or []:
        values.update(_env_from(source, sources))
    for variable in container.get("env") or []:
        value = _value(pod, container, variable, sources, values)
        if value is not None:
            values[variable["name"]] = value
    return values


def _service_links(pod: Object, services: Iterable[Object]) -> dict[str, str]:
    """`NAME_SERVICE_HOST` and `NAME_SERVICE_PORT` of every Service with a ClusterIP, unless switched off."""
    values: dict[str, str] = {}
    if pod["spec"].get("enableServiceLinks") is False:
        return values
    for service in services:
        address = service["spec"].get("clusterIP")
        if address in (None, "", "None"):
            continue
        name = service["metadata"]["name"].upper().replace("-", "_")
        values[f"{name}_SERVICE_HOST"] = address
        ports = service["spec"].get("ports") or []
        if ports:
            values[f"{name}_SERVICE_PORT"] = str(ports[0]["port"])
            values[f"{name}_PORT"] = f"tcp://{address}:{ports[0]['port']}"
    return values


def _env_from(source: Object, sources: Sources) -> dict[str, str]:
    for key, kind, objects in _kinds(sources):
        reference = source.get(f"{key}Ref")
        if reference is None:
            continue
        found = objects.get(reference["name"])
        if found is None and not reference.get("optional"):
            raise ConfigError(f'{kind} "{reference["name"]}" not found')
        prefix = source.get("prefix", "")
        return {prefix + name: value for name, value in texts(found or {}).items()}
    return {}


def _kinds(sources: Sources) -> tuple[tuple[str, str, Mapping[str, Object]], ...]:
    return ("configMap", "configmap", sources.config_maps), ("secret", "secret", sources.secrets)


def texts(source: Object) -> dict[str, str]:
    """Data of a ConfigMap or Secret as text."""
    return {key: value.decode(errors="replace") for key, value in contents(source).items()}


def contents(source: Object) -> dict[str, bytes]:
    """Data of a ConfigMap or Secret as bytes."""
    values: dict[str, bytes] = {}
    is_secret = source.get("kind") == "Secret"
    for key, value in (source.get("data") or {}).items():
        values[key] = base64.b64decode(value) if is_secret else value.encode()
    for key, value in (source.get("binaryData") or {}).items():
        values[key] = base64.b64decode(value)
    return values


def _value(
    pod: Object, container: Object, variable: Object, sources: Sources, earlier: Mapping[str, str]
) -> str | None:
    origin = variable.get("valueFrom")
    if not origin:
        return expand(variable.get("value") or "", earlier)
    try:
        if "fieldRef" in origin:
            return field_value(pod, origin["fieldRef"]["fieldPath"])
        if "resourceFieldRef" in origin:
            return resource_value(pod, container["name"], origin["resourceFieldRef"], sources.allocatable)
    except FieldError as error:
        raise ConfigError(f"env {variable['name']}: {error}") from error
    return _key_value(variable, origin, sources)


def _key_value(variable: Object, origin: Object, sources: Sources) -> str | None:
    for key, kind, objects in _kinds(sources):
        reference = origin.get(f"{key}KeyRef")
        if reference is None:
            continue
        found = objects.get(reference["name"])
        values = texts(found) if found else {}
        if reference["key"] in values:
            return values[reference["key"]]
        if reference.get("optional"):
            return None
        if found is None:
            raise ConfigError(f'{kind} "{reference["name"]}" not found')
        raise ConfigError(f"couldn't find key {reference['key']} in {kind} {reference['name']}")
    raise ConfigError(f"env {variable['name']}: valueFrom names no known source")


def command_line(container: Object, environment: Mapping[str, str]) -> list[str]:
    """`command` and `args` expanded. There is no image whose entry point could stand in for a missing command."""
    return [expand(str(word), environment) for word in [*container["command"], *(container.get("args") or [])]]


def base_environment(hostname: str, python_path: str) -> dict[str, str]:
    """What an image would set: PATH with this Python's programs first, HOME, and the network confinement."""
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    programs = os.path.dirname(sys.executable)
    path = os.environ.get("PATH", os.defpath)
    return {**inherited, "PATH": f"{programs}{os.pathsep}{path}", "HOSTNAME": hostname, "PYTHONPATH": python_path}


def full_environment(base: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """The container's variables over the image's; a PYTHONPATH of its own keeps ours in front, a PATH this Python's."""
    merged = {**base, **own}
    for name in ("PYTHONPATH", "PATH"):
        first = base[name].split(os.pathsep)[0]
        if own.get(name) and first not in own[name].split(os.pathsep):
            merged[name] = f"{first}{os.pathsep}{own[name]}"
    return merged
