"""What the files of configMap, secret, downwardAPI and projected volumes hold; and how they are written."""

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from finetune_local.kubelet.downward import field_value, resource_value
from finetune_local.kubelet.environment import contents

Object = dict[str, Any]
Files = dict[str, tuple[bytes, int]]
"""Relative path → content and mode."""

DEFAULT_MODE = 0o644
DATA = "..data"


class VolumeError(Exception):
    """A volume cannot be set up (yet): event FailedMount, the pod stays in ContainerCreating."""


def keyed_files(source: Object | None, reference: Object, name: str, mode: int) -> Files:
    """Files of a ConfigMap or Secret: all keys, or those in `items` under their paths."""
    optional = bool(reference.get("optional"))
    if source is None and not optional:
        raise VolumeError(f"{name} not found")
    values = contents(source or {})
    items = reference.get("items")
    if not items:
        return {key: (value, mode) for key, value in values.items()}
    files: Files = {}
    for item in items:
        if item["key"] in values:
            files[item["path"]] = (values[item["key"]], item.get("mode") or mode)
        elif not optional:
            raise VolumeError(f"{name}: references non-existent config key: {item['key']}")
    return files


def downward_files(pod: Object, items: Iterable[Object], allocatable: dict[str, str], mode: int) -> Files:
    files: Files = {}
    for item in items:
        if "fieldRef" in item:
            text = field_value(pod, item["fieldRef"]["fieldPath"])
        else:
            text = resource_value(pod, "", item["resourceFieldRef"], allocatable)
        files[item["path"]] = (text.encode(), item.get("mode") or mode)
    return files


def write_files(folder: Path, files: Mapping[str, tuple[bytes, int]]) -> bool:
    """Replaces the content of `folder` at once, by a symlink, as the kubelet does; False when nothing changed."""
    folder.mkdir(parents=True, exist_ok=True)
    current = folder / DATA
    if current.exists() and _read(current) == {path: content for path, (content, _) in files.items()}:
        return False
    version = Path(tempfile.mkdtemp(prefix="..", dir=folder))
    version.chmod(0o755)
    for path, (content, mode) in files.items():
        target = version / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(mode)
    before = os.readlink(current) if current.is_symlink() else None
    _link(folder, DATA, version.name)
    for name in {Path(path).parts[0] for path in files}:
        _link(folder, name, f"{DATA}/{name}")
    for name in os.listdir(folder):
        if not name.startswith("..") and not (version / name).exists():
            (folder / name).unlink()
    if before:
        shutil.rmtree(folder / before)
    return True


def _link(folder: Path, name: str, target: str) -> None:
    temporary = folder / f"{DATA}_tmp"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(folder / name)


def _read(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}
