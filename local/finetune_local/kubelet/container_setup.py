"""Turns a container of a pod into what its supervisor is told to run."""

import os
from pathlib import Path
from typing import Any

from finetune_local.kubelet.environment import (
    ConfigError,
    Sources,
    base_environment,
    command_line,
    container_environment,
    full_environment,
    referenced,
)
from finetune_local.kubelet.image import image_folders, uncovered
from finetune_local.kubelet.pod_context import KubeletSettings
from finetune_local.kubelet.processors import allowed_processors
from finetune_local.kubelet.rewriting import without_mounts
from finetune_local.kubelet.sandbox.root import Mount
from finetune_local.kubelet.sandbox.supervisor import NONE, Spec
from finetune_local.kubelet.volume_contents import VolumeError
from finetune_local.kubelet.volumes import PodVolumes
from finetune_operator.kube.errors import ApiError
from finetune_operator.kube.resources import CONFIG_MAPS, SECRETS, Kind

Object = dict[str, Any]

CONFINEMENT = Path(__file__).resolve().parents[1] / "network" / "confinement"
"""Holds the sitecustomize module that keeps a pod's servers on the pod's address."""
TERMINATION_LOG = "/dev/termination-log"


class MissingCommand(Exception):
    """The container relies on its image's entry point, and there are no images here."""


def pod_hostname(pod: Object) -> str:
    return str(pod["spec"].get("hostname") or pod["metadata"]["name"])[:63]


async def build_spec(settings: KubeletSettings, pod: Object, container: Object, volumes: PodVolumes, ip: str) -> Spec:
    """Raises MissingCommand, ConfigError or VolumeError."""
    if not container.get("command"):
        raise MissingCommand(
            f"container {container['name']}: set `command`. Pods run as local processes without an image, so "
            f"the entry point of {container.get('image', 'the image')!r} is unknown"
        )
    sources = await _sources(settings, pod, container)
    own = container_environment(pod, container, sources)
    own |= _server_variables(settings)
    environment = full_environment(base_environment(pod_hostname(pod), str(CONFINEMENT)), own)
    environment["FINETUNE_LOCAL_POD_IP"] = ip
    environment.setdefault("FINETUNE_LOCAL_FLUSH_DELAY", f"{settings.knobs.flush_delay:g}")
    folder = settings.pod_folder(pod["metadata"]["uid"]) / "containers" / container["name"]
    root = folder / "root"
    root.mkdir(parents=True, exist_ok=True)
    spec = Spec(
        argv=command_line(container, own),
        env=environment,
        cwd=container.get("workingDir") or "/",
        hostname=pod_hostname(pod),
        root=str(root),
        isolation=settings.isolation,
        processors=_processors(container, ip),
        mounts=_mounts(settings, pod, container, folder, volumes.mounts(container, own)),
    )
    return without_mounts(spec, settings, pod) if settings.isolation == NONE else spec


def _processors(container: Object, ip: str) -> list[int]:
    if not hasattr(os, "sched_getaffinity"):
        return []
    return allowed_processors(container, ip, sorted(os.sched_getaffinity(0)))


def termination_file(settings: KubeletSettings, pod: Object, container: Object) -> Path:
    folder = settings.pod_folder(pod["metadata"]["uid"]) / "containers" / container["name"]
    return folder / "termination-log"


def _mounts(
    settings: KubeletSettings, pod: Object, container: Object, folder: Path, volumes: list[Mount]
) -> list[Mount]:
    return [*volumes, *uncovered(image_folders(), volumes), *_system_mounts(settings, pod, container, folder)]


def _system_mounts(settings: KubeletSettings, pod: Object, container: Object, folder: Path) -> list[Mount]:
    message = termination_file(settings, pod, container)
    message.write_bytes(b"")
    etc = settings.pod_folder(pod["metadata"]["uid"]) / "etc"
    target = container.get("terminationMessagePath") or TERMINATION_LOG
    mounts = [Mount(target, str(message))]
    for name in ("hosts", "hostname", "resolv.conf"):
        if os.path.lexists(f"/etc/{name}"):
            mounts.append(Mount(f"/etc/{name}", str(etc / name)))
    return mounts


def write_system_files(settings: KubeletSettings, pod: Object, ip: str) -> None:
    etc = settings.pod_folder(pod["metadata"]["uid"]) / "etc"
    etc.mkdir(parents=True, exist_ok=True)
    (etc / "hostname").write_text(f"{pod_hostname(pod)}\n")
    (etc / "resolv.conf").write_text(_resolver())
    settings.network.hosts_file(pod, ip, etc / "hosts")


def _resolver() -> str:
    """The host's resolver, but one short try: a cluster name that does not exist yet must fail quickly."""
    path = Path("/etc/resolv.conf")
    lines = path.read_text().splitlines() if path.exists() else []
    kept = [line for line in lines if not line.startswith(("options", "search", "domain"))]
    return "\n".join([*kept, "options timeout:1 attempts:1 ndots:1", ""])


def _server_variables(settings: KubeletSettings) -> dict[str, str]:
    host, port = settings.server_address
    return {
        "KUBERNETES_SERVICE_HOST": host,
        "KUBERNETES_SERVICE_PORT": str(port),
        "KUBERNETES_SERVICE_PORT_HTTPS": str(port),
        "KUBERNETES_PORT": f"tcp://{host}:{port}",
    }


async def _sources(settings: KubeletSettings, pod: Object, container: Object) -> Sources:
    namespace = pod["metadata"]["namespace"]
    return Sources(
        config_maps=await _fetch(settings, CONFIG_MAPS, namespace, referenced([container], "configMap")),
        secrets=await _fetch(settings, SECRETS, namespace, referenced([container], "secret")),
        services=settings.services(namespace),
        allocatable=settings.allocatable(pod["spec"].get("nodeName", "")),
    )


async def _fetch(settings: KubeletSettings, kind: Kind, namespace: str, names: set[str]) -> dict[str, Object]:
    found = {}
    for name in names:
        try:
            found[name] = await settings.api.get(kind, name, namespace)
        except ApiError as error:
            if not error.not_found:
                raise ConfigError(f"{kind.plural} {name}: {error}") from error
    return found


__all__ = ["ConfigError", "MissingCommand", "VolumeError", "build_spec", "pod_hostname", "termination_file"]
