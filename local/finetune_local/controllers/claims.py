"""PersistentVolumeClaims: each becomes a folder of this machine, bound at once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.controller import Controller, Key, Result
from finetune_operator.kube.errors import ApiError
from finetune_operator.kube.informer import Informer
from finetune_operator.kube.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, Kind

Object = dict[str, Any]

STORAGE_CLASSES = Kind("storage.k8s.io/v1", "StorageClass", "storageclasses", namespaced=False)
STANDARD = "standard"
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"


class ClaimFolders:
    """Where claims live: folders that the caller gave, or new ones under `folder`."""

    def __init__(self, folder: Path, given: Mapping[str, Path]) -> None:
        """`given`: "namespace/claim" → an existing or new folder."""
        for name in given:
            if name.count("/") != 1:
                raise ValueError(f"claims: {name!r} must be 'namespace/name'")
        self.given = {name: Path(path).resolve() for name, path in given.items()}
        self._folder = folder

    def path(self, namespace: str, name: str) -> Path:
        return self.given.get(f"{namespace}/{name}") or self._folder / "volumes" / namespace / name


class ClaimBinder:
    """Binds every claim of the default class to a hostPath volume; makes the claims that were given as folders."""

    def __init__(self, api: KubeApi, claims: Informer, folders: ClaimFolders) -> None:
        self._api = api
        self._claims = claims
        self._folders = folders
        self.controller = Controller("persistentvolume-binder", self.reconcile, workers=2)
        self.controller.watch(claims)

    async def prepare(self) -> None:
        """The StorageClass `standard`, and a claim for each folder that the caller gave."""
        body = {
            "apiVersion": STORAGE_CLASSES.api_version,
            "kind": STORAGE_CLASSES.kind,
            "metadata": {"name": STANDARD, "annotations": {DEFAULT_CLASS: "true"}},
            "provisioner": "finetune-operator.io/local-folder",
            "reclaimPolicy": "Delete",
            "volumeBindingMode": "Immediate",
        }
        await _create(self._api, STORAGE_CLASSES, body)

    async def create_given(self, namespace: str) -> None:
        for qualified in self._folders.given:
            owner, name = qualified.split("/")
            if owner == namespace:
                await _create(self._api, PERSISTENT_VOLUME_CLAIMS, _claim(owner, name), owner)

    def namespaces(self) -> set[str]:
        return {name.split("/")[0] for name in self._folders.given}

    async def reconcile(self, key: Key) -> Result | None:
        claim = self._claims.get(*key)
        if claim is None or claim["metadata"].get("deletionTimestamp"):
            return None
        if (claim.get("status") or {}).get("phase") == "Bound":
            return None
        named = claim["spec"].get("storageClassName")
        if named not in (None, STANDARD):
            return None  # another provisioner's, and there is none: it stays Pending as in any cluster
        volume = f"pvc-{claim['metadata']['uid']}"
        path = self._folders.path(*key)
        path.mkdir(parents=True, exist_ok=True)
        await _create(self._api, PERSISTENT_VOLUMES, _volume(volume, claim, path))
        bound = await self._api.patch(
            PERSISTENT_VOLUME_CLAIMS,
            key[1],
            {"spec": {"volumeName": volume, "storageClassName": STANDARD}},
            key[0],
        )
        capacity = claim["spec"]["resources"]["requests"]
        status = {"phase": "Bound", "accessModes": claim["spec"].get("accessModes") or [], "capacity": capacity}
        await self._api.replace_status(PERSISTENT_VOLUME_CLAIMS, {**bound, "status": status})
        return None


def _claim(namespace: str, name: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": STANDARD,
            "resources": {"requests": {"storage": "100Gi"}},
        },
    }


def _volume(name: str, claim: Object, path: Path) -> Object:
    metadata = claim["metadata"]
    reference = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "name": metadata["name"],
        "namespace": metadata["namespace"],
        "uid": metadata["uid"],
    }
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": claim["spec"]["resources"]["requests"],
            "accessModes": claim["spec"].get("accessModes") or ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": STANDARD,
            "hostPath": {"path": str(path)},
            "claimRef": reference,
        },
    }


async def _create(api: KubeApi, kind: Kind, body: Object, namespace: str | None = None) -> None:
    try:
        await api.create(kind, body, namespace)
    except ApiError as error:
        if not error.already_exists:
            raise
