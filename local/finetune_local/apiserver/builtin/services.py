"""Services: cluster addresses and ports."""

import random
from collections.abc import Callable
from ipaddress import IPv4Network
from typing import Any

from finetune_local.apiserver.revision_store import RevisionStore
from finetune_local.apiserver.status_error import Cause, duplicate_value, invalid_value, required
from finetune_local.network.addresses import SERVICES_OCTET

Object = dict[str, Any]
# Loopback, so that an address that a program insists on can be bound on this machine; apart from the pods' own range.
CLUSTER_NETWORK = IPv4Network(f"127.{SERVICES_OCTET}.0.0/16")
SERVICES = ("", "services")
NODE_PORTS = range(30000, 32768)


def service_defaults(store: RevisionStore) -> Callable[[Object, Object | None], None]:
    """Defaults that need to know which addresses are taken.

    Each cluster starts at a place of its own: two on one machine would answer for each other's Services.
    """
    start = random.randrange(CLUSTER_NETWORK.num_addresses)

    def default_service(new: Object, old: Object | None) -> None:
        spec = new.setdefault("spec", {})
        if old is None:
            new["status"] = {"loadBalancer": {}}
        for port in spec.get("ports") or ():
            port.setdefault("targetPort", port.get("port"))
        if spec.get("type") == "ExternalName":
            return
        if old is not None:
            _keep_addresses(spec, old["spec"])
        if not spec.get("clusterIP"):
            spec["clusterIP"] = _free_address(store, start)
        spec["clusterIPs"] = [spec["clusterIP"]]
        spec.setdefault("ipFamilies", ["IPv4"])
        spec.setdefault("ipFamilyPolicy", "SingleStack")
        if spec.get("type") in ("NodePort", "LoadBalancer"):
            _assign_node_ports(store, spec)

    return default_service


def _keep_addresses(spec: Object, old: Object) -> None:
    """An update that leaves the address out keeps it, as the real one does for kubectl replace."""
    if not spec.get("clusterIP") and old.get("clusterIP"):
        spec["clusterIP"] = old["clusterIP"]


def _free_address(store: RevisionStore, start: int) -> str:
    taken = {item.body["spec"].get("clusterIP") for item in store.collection(SERVICES).items()}
    size = CLUSTER_NETWORK.num_addresses
    for step in range(size):
        address = str(CLUSTER_NETWORK[(start + step) % size])
        if address not in taken and not address.endswith((".0", ".255")):
            return address
    raise RuntimeError(f"no free service address in {CLUSTER_NETWORK}")


def _assign_node_ports(store: RevisionStore, spec: Object) -> None:
    taken = {
        port.get("nodePort")
        for item in store.collection(SERVICES).items()
        for port in item.body["spec"].get("ports") or ()
    }
    free = (number for number in NODE_PORTS if number not in taken)
    for port in spec.get("ports") or ():
        if not port.get("nodePort"):
            port["nodePort"] = next(free)


def check_service(new: Object, old: Object | None) -> list[Cause]:
    spec = new["spec"]
    errors = []
    ports = spec.get("ports") or []
    headless = spec.get("clusterIP") == "None"
    if not ports and not headless and spec.get("type") != "ExternalName":
        errors.append(required("spec.ports"))
    names: set[str] = set()
    for index, port in enumerate(ports):
        errors += _check_port(port, f"spec.ports[{index}]", len(ports) > 1)
        name = port.get("name", "")
        if name and name in names:
            errors.append(duplicate_value(f"spec.ports[{index}].name", name))
        names.add(name)
    if spec.get("type") == "ExternalName" and not spec.get("externalName"):
        errors.append(required("spec.externalName"))
    if old is not None and old["spec"].get("clusterIP") and spec.get("clusterIP") != old["spec"].get("clusterIP"):
        errors.append(invalid_value("spec.clusterIP", spec.get("clusterIP"), "field is immutable"))
    return errors


def _check_port(port: Object, path: str, named: bool) -> list[Cause]:
    errors = []
    if named and not port.get("name"):
        errors.append(required(f"{path}.name"))
    if not 1 <= port.get("port", 0) <= 65535:
        text = "must be between 1 and 65535, inclusive"
        errors.append(invalid_value(f"{path}.port", port.get("port", 0), text))
    return errors
