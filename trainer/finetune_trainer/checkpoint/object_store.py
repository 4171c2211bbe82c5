"""Checkpoints on an object store, which has no rename: the manifest, written last, is what makes one finished."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune_api import manifest
from finetune_api.manifest import FileEntry, ManifestError
from finetune_storage.errors import NotFoundError
from finetune_storage.s3 import S3Storage
from finetune_trainer.checkpoint.backend import newest_first


class ObjectStore:
    """Each rank uploads its files from a local folder; rank 0 adds the manifest."""

    def __init__(self, storage: S3Storage, scratch: Path) -> None:
        self._storage = storage
        self._scratch = scratch

    def names(self) -> list[str]:
        """Also those without a manifest: whoever opens them sees that they are not finished."""
        return newest_first(self._storage.folders())

    def clean(self) -> list[str]:
        shutil.rmtree(self._scratch, ignore_errors=True)
        unfinished = [name for name in self.names() if not self._storage.exists(f"{name}/{manifest.MANIFEST}")]
        for name in unfinished:
            self._storage.delete(name)
        return unfinished

    def begin(self, name: str) -> str:
        return name

    def folder(self, staging: str) -> Path:
        folder = self._scratch / f"up-{staging}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def deliver(self, staging: str, files: list[str]) -> None:
        folder = self.folder(staging)
        for name in files:
            self._storage.put_file(folder / name, f"{staging}/{name}")
            (folder / name).unlink()

    def commit(self, staging: str, name: str, files: Mapping[str, FileEntry], body: bytes) -> None:
        stored = {entry.path: entry.size for entry in self._storage.files(name)}
        for path, entry in files.items():
            if stored.get(path) != entry["size"]:
                raise ManifestError(f"{path} has {stored.get(path)} bytes in the bucket, expected {entry['size']}")
        self._storage.put(body, f"{name}/{manifest.MANIFEST}")
        if self._storage.read(f"{name}/{manifest.MANIFEST}") != body:
            raise ManifestError(f"{name}/{manifest.MANIFEST} reads back differently")

    def abort(self, staging: str) -> None:
        shutil.rmtree(self._scratch / f"up-{staging}", ignore_errors=True)
        self._storage.delete(staging)

    def open(self, name: str) -> tuple[Path, dict[str, Any]]:
        body = self._manifest(name)
        self._storage.fetch(self._scratch, name)
        try:
            return self.local(name), self._verified(name, body)
        except ManifestError:
            shutil.rmtree(self.local(name), ignore_errors=True)
            raise

    def local(self, name: str) -> Path:
        return self._storage.place(self._scratch, name)

    def delete(self, name: str) -> None:
        self._storage.delete(name)

    def uri(self, name: str) -> str:
        return f"{self._storage.uri.rstrip('/')}/{name}"

    def read_record(self, name: str) -> bytes | None:
        return self._storage.read(name) if self._storage.exists(name) else None

    def write_record(self, name: str, data: bytes) -> None:
        self._storage.put(data, name)

    def _manifest(self, name: str) -> dict[str, Any]:
        try:
            return manifest.decode(self._storage.read(f"{name}/{manifest.MANIFEST}"))
        except NotFoundError as error:
            raise ManifestError(f"{manifest.MANIFEST} is missing: the checkpoint is not finished") from error

    def _verified(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        verified = manifest.verify_folder(self.local(name))
        if verified != body:
            raise ManifestError(f"{manifest.MANIFEST} changed while it was fetched")
        return verified
