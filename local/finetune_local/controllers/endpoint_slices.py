"""EndpointSlices of Services: which pods answer for them, and whether they are ready."""

from typing import Any

from finetune_local.controllers.owned_pods import controller_reference
from finetune_local.network.names import is_ready, selects
from finetune_local.network.service_proxy import target_port
from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.controller import Controller, Key, Result
from finetune_operator.kube.errors import ApiError
from finetune_operator.kube.informer import Informer
from finetune_operator.kube.resources import ENDPOINT_SLICES

Object = dict[str, Any]

MANAGER = "endpointslice-controller.k8s.io"


class EndpointSliceController:
    def __init__(self, api: KubeApi, services: Informer, pods: Informer) -> None:
        self._api = api
        self._services = services
        self._pods = pods
        self._written: dict[Key, Object] = {}
        self.controller = Controller("endpointslice", self.reconcile, workers=4)
        self.controller.watch(services)
        self.controller.watch(pods, self._services_of)

    def _services_of(self, pod: Object) -> list[Key]:
        namespace = pod["metadata"]["namespace"]
        return [
            (namespace, service["metadata"]["name"])
            for service in self._services.by_index("namespace", namespace)
            if selects(service["spec"].get("selector"), pod)
        ]

    async def reconcile(self, key: Key) -> Result | None:
        service = self._services.get(*key)
        if service is None or not service["spec"].get("selector"):
            self._written.pop(key, None)
            return None
        pods = [
            pod
            for pod in self._pods.by_index("namespace", key[0])
            if selects(service["spec"]["selector"], pod) and (pod.get("status") or {}).get("podIP")
        ]
        wanted = slice_of(service, pods)
        if self._written.get(key) == wanted:
            return None
        try:
            await self._api.apply(ENDPOINT_SLICES, wanted, field_manager=MANAGER)
        except ApiError as error:
            if error.not_found or error.forbidden:  # the namespace is going
                return None
            raise
        self._written[key] = wanted
        return None


def slice_of(service: Object, pods: list[Object]) -> Object:
    """One slice holds all: a local Service has few pods."""
    ports = service["spec"].get("ports") or []
    sample = pods[0] if pods else None
    return {
        "apiVersion": ENDPOINT_SLICES.api_version,
        "kind": ENDPOINT_SLICES.kind,
        "metadata": {
            "name": f"{service['metadata']['name']}-local",
            "namespace": service["metadata"]["namespace"],
            "labels": {
                "kubernetes.io/service-name": service["metadata"]["name"],
                "endpointslice.kubernetes.io/managed-by": MANAGER,
            },
            "ownerReferences": [controller_reference({"apiVersion": "v1", "kind": "Service", **service})],
        },
        "addressType": "IPv4",
        "ports": [_port(port, sample) for port in ports],
        "endpoints": [_endpoint(service, pod) for pod in sorted(pods, key=lambda one: str(one["metadata"]["name"]))],
    }


def _port(port: Object, pod: Object | None) -> Object:
    number = target_port(pod, port) if pod else port.get("targetPort")
    made = {"name": port.get("name", ""), "protocol": port.get("protocol", "TCP")}
    return made | ({"port": number} if isinstance(number, int) else {})


def _endpoint(service: Object, pod: Object) -> Object:
    deleting = bool(pod["metadata"].get("deletionTimestamp"))
    running = (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
    serving = is_ready(pod) and running
    published = bool(service["spec"].get("publishNotReadyAddresses")) and running
    metadata, spec = pod["metadata"], pod["spec"]
    endpoint: Object = {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {
            "ready": published or (serving and not deleting),
            "serving": serving,
            "terminating": deleting,
        },
        "nodeName": spec.get("nodeName"),
        "targetRef": {
            "kind": "Pod",
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
    }
    if spec.get("hostname") and spec.get("subdomain") == service["metadata"]["name"]:
        endpoint["hostname"] = spec["hostname"]
    return {name: value for name, value in endpoint.items() if value is not None}
