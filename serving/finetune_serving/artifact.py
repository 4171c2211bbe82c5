"""Opening an artifact: every file is checked against the manifest before anything is loaded."""

import hashlib
import hmac
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from finetune_api.artifact import DESCRIPTION_FILE, MANIFEST_FILE, ArtifactDescription
from finetune_api.errors import field_errors
from finetune_api.exit_codes import ExitCode
from finetune_serving.startup import StartupError

CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Artifact:
    """A verified artifact on the local disk."""

    folder: Path
    description: ArtifactDescription
    digest: str
    """`sha256:…` of its manifest."""


def open_artifact(folder: Path, expected_digest: str | None = None) -> Artifact:
    """Verify the files of `folder` and read its description.

    Raises StartupError: no manifest, another digest than the expected one, a missing or changed file, or a
    description that this server does not understand.
    """
    digest = verify(folder, expected_digest)
    return Artifact(folder, _description(folder), digest)


def verify(folder: Path, expected_digest: str | None = None) -> str:
    """Check every file of a manifest; returns the manifest's digest."""
    path = folder / MANIFEST_FILE
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise StartupError(
            f"{path}: not found; the artifact is incomplete, or --model points at the wrong folder"
        ) from None
    digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    if expected_digest and not hmac.compare_digest(digest, expected_digest):
        raise StartupError(
            f"{path}: digest is {digest}, expected {expected_digest}; the artifact was changed after it was published",
            ExitCode.DATA,
        )
    for name, entry in _files(path, raw).items():
        _verify_file(folder, name, entry)
    return digest


def _files(path: Path, raw: bytes) -> dict[str, Any]:
    try:
        files = json.loads(raw)["files"]
        return dict(files)
    except (ValueError, KeyError, TypeError) as error:
        raise StartupError(f"{path}: not a manifest ({error}); export the model again", ExitCode.DATA) from error


def _verify_file(folder: Path, name: str, entry: Any) -> None:
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts:
        raise StartupError(f"{folder / MANIFEST_FILE}: {name!r} points outside the artifact", ExitCode.DATA)
    path = folder / relative
    try:
        size, actual = path.stat().st_size, ""
        if size == entry["size"]:
            actual = _sha256(path)
    except OSError as error:
        raise StartupError(f"{path}: {error.strerror}; the artifact is damaged", ExitCode.DATA) from error
    if size != entry["size"]:
        raise StartupError(
            f"{path}: {size} bytes, the manifest says {entry['size']}; the artifact is damaged", ExitCode.DATA
        )
    if actual != entry["sha256"]:
        raise StartupError(f"{path}: sha256 differs from the manifest; the artifact is damaged", ExitCode.DATA)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _description(folder: Path) -> ArtifactDescription:
    path = folder / DESCRIPTION_FILE
    try:
        return ArtifactDescription.model_validate_json(path.read_bytes())
    except OSError as error:
        raise StartupError(f"{path}: {error.strerror}; export the model again", ExitCode.DATA) from error
    except ValidationError as error:
        raise StartupError(f"{path}: {field_errors(error)[0]}", ExitCode.DATA) from error
