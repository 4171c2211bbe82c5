"""Checkpoints on a file system that every pod of the job mounts."""

import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune_api import manifest
from finetune_api.manifest import FileEntry, ManifestError
from finetune_storage.errors import UnavailableError
from finetune_storage.local import TEMPORARY, LocalStorage
from finetune_trainer.checkpoint.backend import newest_first

SHARED = "every node must mount the same volume (ReadWriteMany)"


class SharedFolder:
    """Each save is written to `tmp-…` and renamed when it is whole."""

    def __init__(self, storage: LocalStorage) -> None:
        self._storage = storage
        self._root = storage.root

    def names(self) -> list[str]:
        return newest_first(self._storage.folders())

    def clean(self) -> list[str]:
        left = [name for name in self._storage.folders() if name.startswith(TEMPORARY)]
        for name in left:
            shutil.rmtree(self._root / name, ignore_errors=True)
        return left

    def begin(self, name: str) -> str:
        staging = f"{TEMPORARY}{name}-{uuid.uuid4().hex[:8]}"
        (self._root / staging).mkdir(parents=True)
        return staging

    def folder(self, staging: str) -> Path:
        folder = self._root / staging
        if not folder.is_dir():
            raise UnavailableError(f"{folder}: rank 0 made this folder and it is not here; {SHARED}")
        return folder

    def deliver(self, staging: str, files: list[str]) -> None:
        for name in files:
            manifest.fsync(self._root / staging / name)
        manifest.fsync(self._root / staging)

    def commit(self, staging: str, name: str, files: Mapping[str, FileEntry], body: bytes) -> None:
        folder = self._root / staging
        for path, entry in files.items():
            _verify_shared(folder, path, entry)
        manifest.put_manifest(folder, body)
        folder.rename(self._root / name)
        manifest.fsync(self._root)

    def abort(self, staging: str) -> None:
        shutil.rmtree(self._root / staging, ignore_errors=True)

    def open(self, name: str) -> tuple[Path, dict[str, Any]]:
        folder = self._root / name
        return folder, manifest.verify_folder(folder)

    def local(self, name: str) -> Path:
        return self._root / name

    def delete(self, name: str) -> None:
        aside = self._root / f"{TEMPORARY}deleted-{name}-{uuid.uuid4().hex[:8]}"
        (self._root / name).rename(aside)
        shutil.rmtree(aside, ignore_errors=True)

    def uri(self, name: str) -> str:
        return f"{self._storage.uri.rstrip('/')}/{name}"

    def read_record(self, name: str) -> bytes | None:
        path = self._root / name
        return path.read_bytes() if path.exists() else None

    def write_record(self, name: str, data: bytes) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        temporary = self._root / f"{TEMPORARY}{name}"
        temporary.write_bytes(data)
        manifest.fsync(temporary)
        os.replace(temporary, self._root / name)


def _verify_shared(folder: Path, path: str, entry: FileEntry) -> None:
    try:
        manifest.verify_file(folder / path, path, entry)
    except ManifestError as error:
        hint = f"; {SHARED}" if "missing" in str(error) else ""
        raise UnavailableError(f"{folder}: verification after writing failed: {error}{hint}") from error
