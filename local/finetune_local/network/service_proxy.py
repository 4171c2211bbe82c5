"""Services with a ClusterIP: a TCP proxy to the ready pods, which also gives each Service a URL on 127.0.0.1."""

import asyncio
import itertools
import logging
import zlib
from collections.abc import Callable
from typing import Any

from finetune_local.network.addresses import AddressPool
from finetune_local.network.names import is_headless, is_published
from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.controller import Controller, Key, Result
from finetune_operator.kube.errors import ApiError
from finetune_operator.kube.informer import Informer
from finetune_operator.kube.resources import SERVICES

log = logging.getLogger(__name__)

Object = dict[str, Any]
Address = tuple[str, int]

URL_ANNOTATION = "local.finetune-operator.io/url"
"""On every Service with a ClusterIP: where its first port is reached from this machine, e.g. http://127.0.0.1:31234"""
NODE_PORTS = range(30000, 32768)


def backends(service: Object, port: Object, pods: list[Object]) -> list[Address]:
    """Ready endpoints of one port of a Service."""
    found = []
    for pod in pods:
        if pod["metadata"]["namespace"] == service["metadata"]["namespace"] and is_published(service, pod):
            number = target_port(pod, port)
            if number is not None:
                found.append((pod["status"]["podIP"], number))
    return sorted(found)


def target_port(pod: Object, port: Object) -> int | None:
    wanted = port.get("targetPort") or port["port"]
    if isinstance(wanted, int):
        return wanted
    for container in pod["spec"]["containers"]:
        for one in container.get("ports") or []:
            if one.get("name") == wanted:
                return int(one["containerPort"])
    return int(wanted) if wanted.isdigit() else None


class PortProxy:
    """Listens on several addresses and passes connections on, round-robin."""

    def __init__(self, find: Callable[[], list[Address]]) -> None:
        self._find = find
        self._turn = itertools.count()
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()

    async def listen(self, address: Address) -> bool:
        """False when this user may not listen there, or somebody else does."""
        try:
            self._servers.append(await asyncio.start_server(self._accept, *address))
        except OSError:
            return False
        return True

    def close(self) -> None:
        for server in self._servers:
            server.close()
        for task in self._connections:
            task.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
        try:
            await self._serve(reader, writer)
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found = self._find()
        start = next(self._turn)
        for index in range(len(found)):
            try:
                upstream = await asyncio.open_connection(*found[(start + index) % len(found)])
            except OSError:
                continue
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(_copy(reader, upstream[1]))
                    both.create_task(_copy(upstream[0], writer))
            finally:
                upstream[1].close()
            return


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
        if target.can_write_eof():
            target.write_eof()
    except ConnectionError:
        target.close()


class ServiceProxies:
    """One proxy for each port of each Service with a ClusterIP."""

    def __init__(self, api: KubeApi, services: Informer, pods: Informer, pool: AddressPool) -> None:
        self._api = api
        self._services = services
        self._pods = pods
        self._pool = pool
        services.add_handler(self._release)
        self._proxies: dict[tuple[Key, int], PortProxy] = {}
        self._urls: dict[Key, str] = {}
        self.controller = Controller("service-proxy", self.reconcile, workers=2)
        self.controller.watch(services)

    def _release(self, old: Object | None, new: Object | None) -> None:
        if new is None and old is not None:
            self._pool.release(old["metadata"]["uid"])

    async def reconcile(self, key: Key) -> Result | None:
        service = self._services.get(*key)
        if service is None or is_headless(service) or service["spec"].get("type") == "ExternalName":
            self._remove(key, keep=set())
            return None
        if key == ("default", "kubernetes"):
            return None
        if not service["spec"].get("clusterIP"):
            patch = {"spec": {"clusterIP": self._pool.assign(service["metadata"]["uid"])}}
            await self._api.patch(SERVICES, key[1], patch, key[0])
            return None
        ports = service["spec"].get("ports") or []
        self._remove(key, keep={port["port"] for port in ports})
        for port in ports:
            if (key, port["port"]) not in self._proxies and port.get("protocol", "TCP") == "TCP":
                await self._open(key, service, port)
        await self._annotate(key, service)
        return None

    async def _open(self, key: Key, service: Object, port: Object) -> None:
        number = port["port"]
        proxy = PortProxy(lambda: self._backends(key, number))
        self._proxies[key, number] = proxy
        await proxy.listen((service["spec"]["clusterIP"], number))
        for candidate in _candidates(key, port):
            if await proxy.listen(("127.0.0.1", candidate)):
                scheme = "https" if number == 443 or port.get("name") == "https" else "http"
                self._urls.setdefault(key, f"{scheme}://127.0.0.1:{candidate}")
                return
        log.warning("service %s/%s: no free port in 30000-32767", *key)

    def _backends(self, key: Key, number: int) -> list[Address]:
        service = self._services.get(*key)
        ports = service["spec"].get("ports") or [] if service else []
        port = next((one for one in ports if one["port"] == number), None)
        return backends(service, port, self._pods.list()) if service and port else []

    def endpoint(self, namespace: str, name: str, number: int) -> Address | None:
        """A ready endpoint of a Service's port, as the API server finds the webhooks that it calls."""
        found = self._backends((namespace, name), number)
        return found[0] if found else None

    async def _annotate(self, key: Key, service: Object) -> None:
        url = self._urls.get(key)
        if url is None or (service["metadata"].get("annotations") or {}).get(URL_ANNOTATION) == url:
            return
        try:
            await self._api.patch(SERVICES, key[1], {"metadata": {"annotations": {URL_ANNOTATION: url}}}, key[0])
        except ApiError as error:
            if not error.not_found:
                raise

    def _remove(self, key: Key, keep: set[int]) -> None:
        for owner, number in list(self._proxies):
            if owner == key and number not in keep:
                self._proxies.pop((owner, number)).close()
                self._urls.pop(key, None)

    def urls(self) -> dict[Key, str]:
        """URL on 127.0.0.1 of each Service."""
        return dict(self._urls)

    def close(self) -> None:
        for proxy in self._proxies.values():
            proxy.close()
        self._proxies.clear()


def _candidates(key: Key, port: Object) -> list[int]:
    """Where to listen on 127.0.0.1: the Service's nodePort, or a port that its name decides, then the next ones."""
    size = len(NODE_PORTS)
    start = zlib.crc32(f"{key[0]}/{key[1]}/{port['port']}".encode()) % size
    derived = [NODE_PORTS[(start + step) % size] for step in range(64)]
    return [port["nodePort"], *derived] if port.get("nodePort") else derived
