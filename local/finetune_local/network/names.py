"""Cluster DNS as a pure function: Services and pods → names and addresses."""

from collections.abc import Iterable, Mapping
from typing import Any

Object = dict[str, Any]
Records = dict[tuple[str, str], set[str]]
"""(namespace, name within it such as `web` or `job-0.job`) → addresses."""

DOMAIN = "cluster.local"


def selects(selector: Mapping[str, str] | None, pod: Object) -> bool:
    """Whether a Service's selector matches; a Service without one selects nothing."""
    labels = pod["metadata"].get("labels") or {}
    return bool(selector) and all(labels.get(key) == value for key, value in (selector or {}).items())


def is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def is_published(service: Object, pod: Object) -> bool:
    """Whether the pod is an endpoint of the Service now."""
    status = pod.get("status") or {}
    if not status.get("podIP") or status.get("phase") in ("Succeeded", "Failed"):
        return False
    if not selects(service["spec"].get("selector"), pod):
        return False
    if service["spec"].get("publishNotReadyAddresses"):
        return True
    return is_ready(pod) and not pod["metadata"].get("deletionTimestamp")


def is_headless(service: Object) -> bool:
    return service["spec"].get("clusterIP") == "None"


def records(services: Iterable[Object], pods: Iterable[Object]) -> Records:
    by_namespace: dict[str, list[Object]] = {}
    for pod in pods:
        by_namespace.setdefault(pod["metadata"]["namespace"], []).append(pod)
    found: Records = {}
    for service in services:
        namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
        if not is_headless(service):
            address = service["spec"].get("clusterIP")
            if address:
                found[namespace, name] = {address}
            continue
        for pod in by_namespace.get(namespace, []):
            if is_published(service, pod):
                _add_headless(found, namespace, name, pod)
    return found


def _add_headless(found: Records, namespace: str, service: str, pod: Object) -> None:
    address = pod["status"]["podIP"]
    found.setdefault((namespace, service), set()).add(address)
    spec = pod["spec"]
    if spec.get("hostname") and spec.get("subdomain") == service:
        found.setdefault((namespace, f"{spec['hostname']}.{service}"), set()).add(address)


def hosts_lines(known: Mapping[tuple[str, str], Iterable[str]], namespace: str) -> list[str]:
    """Lines of /etc/hosts for a pod of `namespace`."""
    lines = []
    for (owner, name), addresses in sorted(known.items()):
        qualified = f"{name}.{owner}"
        names = [f"{qualified}.svc.{DOMAIN}", f"{qualified}.svc", qualified]
        if owner == namespace:
            names.append(name)
        lines += [f"{address}\t{' '.join(names)}" for address in sorted(addresses)]
    return lines
