"""Loaded by every Python of a pod: servers that listen everywhere listen on the pod's own address only.

All pods share one machine's network; without this, two pods could not both serve port 8080. Standard library only.
Names under .svc and .cluster.local that /etc/hosts does not have are refused at once, instead of after the time-outs
of a resolver that can't know them. And flushing a file takes as long as the knob for slow storage says.
"""

import importlib.machinery
import importlib.util
import os
import socket
import sys
import time

_HERE = os.path.dirname(os.path.abspath(__file__))
_ADDRESS = os.environ.get("FINETUNE_LOCAL_POD_IP", "")
_FLUSH_DELAY = float(os.environ.get("FINETUNE_LOCAL_FLUSH_DELAY") or 0)
_OWN_HOSTS = os.environ.get("FINETUNE_LOCAL_HOSTS_FILE", "")
"""Set where the pod's hosts file could not be mounted over /etc/hosts."""
_HOSTS = _OWN_HOSTS or "/etc/hosts"
_CLUSTER_SUFFIXES = (".svc", ".cluster.local")


def _confine() -> None:
    bind = socket.socket.bind
    getaddrinfo = socket.getaddrinfo

    def confined_bind(self, address):
        if self.family == socket.AF_INET and address[0] in ("", "0.0.0.0"):
            address = (_ADDRESS, *address[1:])
        elif self.family == socket.AF_INET6 and address[0] in ("", "::"):
            self.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            address = (f"::ffff:{_ADDRESS}", *address[1:])
        return bind(self, address)

    def confined_getaddrinfo(host, port, family=0, type=0, proto=0, flags=0):
        if host in (None, "") and flags & socket.AI_PASSIVE:
            host = _ADDRESS
            family = socket.AF_INET if family == socket.AF_UNSPEC else family
        elif isinstance(host, str):
            host = _known(host)
        return getaddrinfo(host, port, family, type, proto, flags)

    socket.socket.bind = confined_bind  # type: ignore[method-assign]
    socket.getaddrinfo = confined_getaddrinfo
    if _OWN_HOSTS:
        gethostbyname = socket.gethostbyname
        socket.gethostbyname = lambda host: gethostbyname(_known(host))


def _slow_down() -> None:
    fsync = os.fsync

    def slow_fsync(file):
        time.sleep(_FLUSH_DELAY)
        return fsync(file)

    os.fsync = slow_fsync


def _known(host: str) -> str:
    """The address of a name of the cluster; any other name as it is."""
    name = host.rstrip(".")
    in_cluster = name.endswith(_CLUSTER_SUFFIXES)
    if not in_cluster and not _OWN_HOSTS:
        return host
    found = _find(name)
    if not found and in_cluster:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return found or host


def _find(name: str) -> str:
    with open(_HOSTS) as file:
        for line in file:
            address, *names = line.partition("#")[0].split() or [""]
            if name in names:
                return address
    return ""


def _load_next() -> None:
    """The sitecustomize that this one hides, if there is one."""
    path = [entry for entry in sys.path if os.path.abspath(entry or os.curdir) != _HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", path)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


if _ADDRESS:
    _confine()
if _FLUSH_DELAY:
    _slow_down()
_load_next()
