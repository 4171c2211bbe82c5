"""Sets up the volumes of one pod as folders, and keeps mounted ConfigMaps, Secrets and tokens up to date."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune_local.kubelet.environment import expand
from finetune_local.kubelet.sandbox.root import Mount
from finetune_local.kubelet.volume_contents import (
    DEFAULT_MODE,
    Files,
    VolumeError,
    downward_files,
    keyed_files,
    write_files,
)
from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.errors import ApiError
from finetune_operator.kube.quantities import parse_quantity
from finetune_operator.kube.resources import CONFIG_MAPS, PERSISTENT_VOLUME_CLAIMS, SECRETS, SERVICE_ACCOUNTS, Kind

Object = dict[str, Any]

ACCESS_MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
ACCESS_VOLUME = "kube-api-access"
TOKEN_RENEWAL = 0.8
"""A token is renewed after this part of its life, as the kubelet does."""
GENERATED = ("configMap", "secret", "downwardAPI", "projected")


def with_api_access(pod: Object, service_account: Object | None) -> Object:
    """The pod with the volume that admission gives it in a real cluster: token, CA and namespace."""
    spec = pod["spec"]
    automount = spec.get("automountServiceAccountToken")
    if automount is None:
        automount = (service_account or {}).get("automountServiceAccountToken", True)
    if not automount:
        return pod
    items = [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]
    sources: list[Object] = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {"configMap": {"name": "kube-root-ca.crt", "optional": True}},
        {"downwardAPI": {"items": items}},
    ]
    volume = {"name": ACCESS_VOLUME, "projected": {"sources": sources}}
    mount = {"name": ACCESS_VOLUME, "mountPath": ACCESS_MOUNT, "readOnly": True}
    made = dict(spec, volumes=[*(spec.get("volumes") or []), volume])
    for key in ("initContainers", "containers"):
        if key in spec:
            made[key] = [_with_mount(container, mount) for container in spec[key] or []]
    return dict(pod, spec=made)


def _with_mount(container: Object, mount: Object) -> Object:
    mounts = container.get("volumeMounts") or []
    if any(one["mountPath"].rstrip("/") == ACCESS_MOUNT for one in mounts):
        return container
    return dict(container, volumeMounts=[*mounts, mount])


@dataclass
class PodVolumes:
    """The volumes of one pod under `folder`."""

    api: KubeApi
    pod: Object
    folder: Path
    claim_folder: Callable[[str, str], Path]
    """(namespace, claim) → its folder."""
    allocatable: dict[str, str]
    _tokens: dict[str, tuple[bytes, float]] = field(default_factory=dict)
    """Audience and path → token and when to renew it."""

    async def prepare(self) -> None:
        """Sets up every volume, or raises VolumeError."""
        for volume in self.pod["spec"].get("volumes") or []:
            await self._prepare(volume)

    async def refresh(self) -> None:
        for volume in self.pod["spec"].get("volumes") or []:
            if any(kind in volume for kind in GENERATED):
                await self._generate(volume)

    def mounts(self, container: Object, environment: dict[str, str]) -> list[Mount]:
        """What to mount into this container."""
        volumes = {one["name"]: one for one in self.pod["spec"].get("volumes") or []}
        made = []
        for mount in container.get("volumeMounts") or []:
            volume = volumes.get(mount["name"])
            if volume is None:
                raise VolumeError(f"volumeMounts: no volume is named {mount['name']!r}")
            made.append(self._mount(volume, mount, environment))
        return made

    def _mount(self, volume: Object, mount: Object, environment: dict[str, str]) -> Mount:
        if self._is_private_memory(volume):
            limit = volume["emptyDir"].get("sizeLimit")
            return Mount(mount["mountPath"], None, size=str(int(parse_quantity(limit))) if limit else "")
        source = self._source(volume)
        part = mount.get("subPath") or expand(mount.get("subPathExpr") or "", environment)
        if part:
            source = source / part.lstrip("/")
            if not source.exists():
                source.mkdir(parents=True)
        read_only = bool(mount.get("readOnly")) or any(kind in volume for kind in GENERATED)
        claim = volume.get("persistentVolumeClaim") or {}
        return Mount(mount["mountPath"], str(source), read_only or bool(claim.get("readOnly")))

    def _is_private_memory(self, volume: Object) -> bool:
        """A tmpfs of the container's own will do: nobody shares it and nothing must outlive the process."""
        if (volume.get("emptyDir") or {}).get("medium") != "Memory":
            return False
        spec = self.pod["spec"]
        everyone = [*(spec.get("initContainers") or []), *spec["containers"]]
        users = [one for one in everyone if volume["name"] in [m["name"] for m in one.get("volumeMounts") or []]]
        return len(users) == 1 and spec.get("restartPolicy") == "Never"

    def _source(self, volume: Object) -> Path:
        if "hostPath" in volume:
            return Path(volume["hostPath"]["path"])
        if "persistentVolumeClaim" in volume:
            return self.claim_folder(self._namespace, volume["persistentVolumeClaim"]["claimName"])
        return self.folder / volume["name"]

    @property
    def _namespace(self) -> str:
        return str(self.pod["metadata"]["namespace"])

    async def _prepare(self, volume: Object) -> None:
        if any(kind in volume for kind in GENERATED):
            await self._generate(volume)
        elif "emptyDir" in volume:
            path = self.folder / volume["name"]
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(0o777)
        elif "persistentVolumeClaim" in volume:
            await self._check_claim(volume["persistentVolumeClaim"]["claimName"])
            self._source(volume).mkdir(parents=True, exist_ok=True)
        elif "hostPath" in volume:
            self._check_host_path(volume["hostPath"])
        else:
            kinds = ", ".join(sorted(set(volume) - {"name"})) or "nothing"
            raise VolumeError(
                f"volume {volume['name']}: {kinds} is not supported here; use emptyDir, configMap, secret, "
                "downwardAPI, projected, persistentVolumeClaim or hostPath"
            )

    async def _check_claim(self, name: str) -> None:
        claim = await self._find(PERSISTENT_VOLUME_CLAIMS, name)
        if claim is None:
            raise VolumeError(f'persistentvolumeclaim "{name}" not found')
        if claim.get("status", {}).get("phase") != "Bound":
            raise VolumeError(f'persistentvolumeclaim "{name}" is not bound')

    def _check_host_path(self, source: Object) -> None:
        path, kind = Path(source["path"]), source.get("type") or ""
        if kind == "DirectoryOrCreate":
            path.mkdir(parents=True, exist_ok=True)
        elif kind == "FileOrCreate":
            path.touch()
        elif not path.exists():
            raise VolumeError(f"hostPath {path} does not exist")

    async def _generate(self, volume: Object) -> None:
        mode = DEFAULT_MODE
        files: Files = {}
        if "projected" in volume:
            mode = volume["projected"].get("defaultMode") or mode
            for source in volume["projected"].get("sources") or []:
                files.update(await self._files(source, mode, "name"))
        else:
            kind = next(kind for kind in GENERATED if kind in volume)
            mode = volume[kind].get("defaultMode") or mode
            files = await self._files(volume, mode, "secretName" if kind == "secret" else "name")
        write_files(self.folder / volume["name"], files)

    async def _files(self, source: Object, mode: int, name_key: str) -> Files:
        if "configMap" in source:
            reference = source["configMap"]
            found = await self._find(CONFIG_MAPS, reference["name"])
            return keyed_files(found, reference, f'configmap "{reference["name"]}"', mode)
        if "secret" in source:
            reference = source["secret"]
            found = await self._find(SECRETS, reference[name_key])
            return keyed_files(found, reference, f'secret "{reference[name_key]}"', mode)
        if "downwardAPI" in source:
            return downward_files(self.pod, source["downwardAPI"].get("items") or [], self.allocatable, mode)
        if "serviceAccountToken" in source:
            reference = source["serviceAccountToken"]
            return {reference["path"]: (await self._token(reference), mode)}
        raise VolumeError(f"projected source {', '.join(source)} is not supported here")

    async def _token(self, reference: Object) -> bytes:
        audience = reference.get("audience", "")
        key = f"{audience} {reference['path']}"
        token, renew_at = self._tokens.get(key, (b"", 0.0))
        if time.monotonic() < renew_at:
            return token
        seconds = reference.get("expirationSeconds") or 3600
        made = await self._request_token(audience, seconds)
        self._tokens[key] = made, time.monotonic() + TOKEN_RENEWAL * seconds
        return made

    async def _request_token(self, audience: str, seconds: int) -> bytes:
        metadata = self.pod["metadata"]
        account = self.pod["spec"].get("serviceAccountName") or "default"
        bound = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
        spec = {"audiences": [audience] if audience else [], "expirationSeconds": seconds, "boundObjectRef": bound}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        path = SERVICE_ACCOUNTS.path(self._namespace, account, "token")
        try:
            answer = await self.api.post(path, body)
        except ApiError as error:
            raise VolumeError(f"token of serviceaccount {account}: {error}") from error
        return str(answer["status"]["token"]).encode()

    async def _find(self, kind: Kind, name: str) -> Object | None:
        try:
            return await self.api.get(kind, name, self._namespace)
        except ApiError as error:
            if error.not_found:
                return None
            raise VolumeError(f"{kind.plural} {name}: {error}") from error
