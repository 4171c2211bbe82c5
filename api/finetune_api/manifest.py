"""manifest.json: the files of a checkpoint or an artifact, with their sizes and sha256 digests.

    {"format": 1, "files": {"config.json": {"size": 612, "sha256": "…"}}, …}

It is written last, so a folder without one is not finished; its own digest names the whole folder. Canonical JSON
(sorted keys, no spaces) makes that digest a function of the content alone. Standard library only: the trainer writes
it and the server, which cannot import the trainer, verifies it.
"""

import hashlib
import json
import os
from pathlib import Path, PurePosixPath
from typing import Any, TypedDict

MANIFEST = "manifest.json"
FORMAT = 1


class FileEntry(TypedDict):
    """What a manifest knows of one file."""

    size: int
    sha256: str


class ManifestError(Exception):
    """A folder is not what its manifest says; the message names the first bad file and why."""


def entry_of(path: Path) -> FileEntry:
    """Size in bytes and sha256 of a file, read as it is on the disk now."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"size": file.tell(), "sha256": digest}


def files_of(folder: Path) -> list[str]:
    """Every file below a folder but the manifest, as sorted relative POSIX paths."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path != folder / MANIFEST
    )


def encode(files: dict[str, FileEntry], extra: dict[str, Any] | None = None) -> bytes:
    """The bytes of a manifest; `extra` holds further keys such as the step."""
    body = {**(extra or {}), "format": FORMAT, "files": files}
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def decode(data: bytes) -> dict[str, Any]:
    """A manifest from its bytes.

    Raises:
        ManifestError: It is not JSON, not of our format, or names a file outside its folder.
    """
    try:
        body = json.loads(data)
    except ValueError as error:
        raise ManifestError(f"{MANIFEST} is not JSON: {error}") from error
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise ManifestError(f"{MANIFEST} is not of format {FORMAT}")
    files = body.get("files")
    if not isinstance(files, dict) or not files:
        raise ManifestError(f"{MANIFEST} names no files")
    for name, entry in files.items():
        _check_entry(name, entry)
    return body


def _check_entry(name: str, entry: Any) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ManifestError(f"{MANIFEST} names {name!r}, which is outside its folder")
    if (
        not isinstance(entry, dict)
        or not isinstance(entry.get("size"), int)
        or not isinstance(entry.get("sha256"), str)
    ):
        raise ManifestError(f"{MANIFEST} has no size and sha256 for {name!r}")


def digest_of(manifest: bytes) -> str:
    """The name of a folder's content: `sha256:…` of its manifest's bytes."""
    return f"sha256:{hashlib.sha256(manifest).hexdigest()}"


def write_manifest(folder: Path, extra: dict[str, Any] | None = None) -> str:
    """Write the manifest of a folder and force it and every file to the disk.

    Returns:
        The digest of the manifest, `sha256:…`.
    """
    files = {name: entry_of(folder / name) for name in files_of(folder)}
    for name in files:
        fsync(folder / name)
    return put_manifest(folder, encode(files, extra))


def put_manifest(folder: Path, data: bytes) -> str:
    """Write ready bytes as the manifest of a folder, durably and in one go; returns their digest."""
    temporary = folder / f".{MANIFEST}.tmp"
    temporary.write_bytes(data)
    fsync(temporary)
    temporary.rename(folder / MANIFEST)
    for directory in {(folder / name).parent for name in decode(data)["files"]} | {folder}:
        fsync(directory)
    return digest_of(data)


def read_manifest(folder: Path) -> tuple[dict[str, Any], str]:
    """The manifest of a folder and its digest; no file is checked.

    Raises:
        ManifestError: There is none, or it cannot be understood.
    """
    try:
        data = (folder / MANIFEST).read_bytes()
    except FileNotFoundError as error:
        raise ManifestError(f"{MANIFEST} is missing: the folder is not finished") from error
    return decode(data), digest_of(data)


def verify_folder(folder: Path, digest: str | None = None) -> dict[str, Any]:
    """Compare every file of a folder with its manifest, and the manifest with `digest` when one is given.

    Files that the manifest does not name are not looked at.

    Raises:
        ManifestError: With the first bad file and why.
    """
    body, actual = read_manifest(folder)
    if digest is not None and actual != digest:
        raise ManifestError(f"{MANIFEST} has digest {actual}, expected {digest}: the folder was changed")
    for name, entry in sorted(body["files"].items(), key=lambda item: (item[1]["size"], item[0])):
        verify_file(folder / name, name, entry)
    return body


def verify_file(path: Path, name: str, entry: FileEntry) -> None:
    """Compare one file with its entry.

    Raises:
        ManifestError: It is missing, has another size, or another content.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise ManifestError(f"{name} is missing") from error
    if size != entry["size"]:
        raise ManifestError(f"{name} has {size} bytes, expected {entry['size']}")
    if entry_of(path)["sha256"] != entry["sha256"]:
        raise ManifestError(f"{name} has the right size but another content (sha256 differs)")


def fsync(path: Path) -> None:
    """Force a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
