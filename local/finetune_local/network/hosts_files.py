"""Keeps the /etc/hosts of every pod true while pods and Services come and go."""

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_local.network.addresses import AddressPool
from finetune_local.network.names import Records, hosts_lines, records
from finetune_operator.kube.informer import Informer

Object = dict[str, Any]

HEADER = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"


@dataclass(frozen=True)
class HostsFile:
    path: Path
    namespace: str
    own_line: str


class ClusterNames:
    """Addresses of pods and the hosts files in which they find each other.

    The files are rewritten in place, since they are bind-mounted; glibc reads them anew for each lookup, so that
    C++ code (torch's TCPStore) sees a new pod as soon as Python does.
    """

    def __init__(self, pods: Informer, services: Informer, server: str, *, dns_delay: float = 0.0) -> None:
        self.pool = AddressPool()
        self._pods = pods
        self._services = services
        self._server = server
        self._dns_delay = dns_delay
        self._files: dict[str, HostsFile] = {}
        self._named: dict[str, str] = {}
        """host.subdomain.namespace → uid of the pod that has this name now."""
        self._known_since: dict[tuple[tuple[str, str], str], float] = {}
        self._changed = asyncio.Event()
        for informer in (pods, services):
            informer.add_handler(lambda old, new: self._changed.set())

    def assign(self, uid: str, name: str = "") -> str:
        if name:
            self.pool.hand_over(f"name {name}", uid)
            self._named[name] = uid
        return self.pool.assign(uid)

    def reserve(self, name: str) -> str:
        return self.pool.assign(self._named.get(name, f"name {name}"))

    def release(self, uid: str) -> None:
        self._files.pop(uid, None)
        self._named = {name: owner for name, owner in self._named.items() if owner != uid}
        self.pool.release(uid)

    def hosts_file(self, pod: Object, ip: str, path: Path) -> None:
        spec, namespace = pod["spec"], pod["metadata"]["namespace"]
        hostname = spec.get("hostname") or pod["metadata"]["name"]
        names = [hostname]
        if subdomain := spec.get("subdomain"):
            names.insert(0, f"{hostname}.{subdomain}.{namespace}.svc.cluster.local")
        self._files[pod["metadata"]["uid"]] = HostsFile(path, namespace, f"{ip}\t{' '.join(names)}")
        aliases = "".join(f"{one['ip']}\t{' '.join(one['hostnames'])}\n" for one in spec.get("hostAliases") or [])
        path.write_text(f"{HEADER}{aliases}")
        self._write(self._files[pod["metadata"]["uid"]], self._visible()[0])

    async def run(self) -> None:
        """Rewrites the files after each change, and again when a delayed name becomes visible."""
        wait: float | None = None
        while True:
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()
            visible, wait = self._visible()
            for file in list(self._files.values()):
                self._write(file, visible)
            await asyncio.sleep(0.02)

    def _visible(self) -> tuple[Records, float | None]:
        """What DNS knows by now, and seconds until it knows more."""
        now = time.monotonic()
        everything = records(self._services.list(), self._pods.list())
        everything["default", "kubernetes"] = {self._server}
        since = {
            (name, address): self._known_since.get((name, address), now)
            for name, addresses in everything.items()
            for address in addresses
        }
        self._known_since = since
        visible: Records = {}
        waits = []
        for (name, address), known in since.items():
            remaining = known + self._dns_delay - now
            if remaining <= 0 or name == ("default", "kubernetes"):
                visible.setdefault(name, set()).add(address)
            else:
                waits.append(remaining)
        return visible, min(waits, default=None)

    def _write(self, file: HostsFile, visible: Records) -> None:
        aliases = file.path.read_text().split("# Pods and Services.\n")[0]
        lines = [file.own_line, *hosts_lines(visible, file.namespace)]
        text = (aliases + "# Pods and Services.\n" + "\n".join(lines) + "\n").encode()
        if file.path.read_bytes() == text:
            return
        descriptor = os.open(file.path, os.O_WRONLY)
        try:
            os.pwrite(descriptor, text, 0)
            os.ftruncate(descriptor, len(text))
        finally:
            os.close(descriptor)
