"""Opening an artifact: every file is checked against the manifest before anything is loaded."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from finetune_api.artifact import DESCRIPTION_FILE, ArtifactDescription
from finetune_api.errors import field_errors
from finetune_api.exit_codes import ExitCode
from finetune_api.manifest import MANIFEST, ManifestError, files_of, read_manifest, verify_folder
from finetune_serving.settings import ModelSource
from finetune_serving.startup import StartupError
from finetune_storage import Storage, open_storage
from finetune_storage.errors import StorageError, UnavailableError
from finetune_storage.model_files import model_patterns

log = logging.getLogger(__name__)

PAUSES = (1.0, 2.0, 5.0, 10.0, 20.0, *8 * (30.0,))
"""Seconds between tries to fetch, some five minutes in all."""


@dataclass(frozen=True)
class Artifact:
    """A verified artifact on the local disk."""

    folder: Path
    description: ArtifactDescription
    digest: str
    """`sha256:…` of its manifest."""


def local_folder(uri: str, scratch: Path) -> Path:
    """The folder that a URI or a path names, whole, fetched below `scratch` when it is remote. Raises StartupError."""
    return _fetch(uri, scratch, None, lambda _: None)


def base_folder(uri: str, scratch: Path, revision: str | None, trust_remote_code: bool) -> Path:
    """The folder of a pre-trained model, with what is needed to load it. Raises StartupError."""
    return _fetch(uri, scratch, revision, lambda storage: model_patterns(storage, trust_remote_code))


def _fetch(uri: str, scratch: Path, revision: str | None, choose: Callable[[Storage], list[str] | None]) -> Path:
    known = uri if "://" in uri else f"file://{Path(uri).absolute()}"
    try:
        folder = _patiently(lambda: _fetched(open_storage(known, revision), scratch, choose))
    except StorageError as error:
        raise StartupError(str(error)) from error
    if not folder.is_dir():
        raise StartupError(f"{uri}: is a file; give the folder of the model")
    return folder


def _fetched(storage: Storage, scratch: Path, choose: Callable[[Storage], list[str] | None]) -> Path:
    return storage.fetch(scratch, patterns=choose(storage))


def _patiently(fetch: Callable[[], Path]) -> Path:
    """A place that does not answer just now is asked again: a pod that ended for it would be restarted ever more
    slowly, and its version soon be given up for a crash loop."""
    for pause in PAUSES:
        try:
            return fetch()
        except UnavailableError as error:
            log.warning("%s; trying again in %g s", error, pause)
            time.sleep(pause)
    return fetch()


def open_artifact(source: ModelSource) -> Artifact:
    """Fetch an artifact, verify its files and read its description.

    Raises StartupError: nothing there, no manifest, another digest than the expected one, a missing or changed file,
    or a description that this server does not understand.
    """
    folder = local_folder(source.uri, source.scratch)
    verify(folder, source.digest)
    _, digest = read_manifest(folder)
    return Artifact(folder, _description(folder), digest)


def verify(folder: Path, expected_digest: str | None = None) -> None:
    """Check every file of a folder against its manifest. Raises StartupError naming the file.

    A file that the manifest does not name is refused: libraries load by names what they find, such as an
    adapter_config.json beside a whole model, and the digest would vouch for another model than answers.
    """
    try:
        named = verify_folder(folder, expected_digest)["files"]
    except ManifestError as error:
        raise StartupError(f"{folder}: damaged or not an artifact: {error}", ExitCode.DATA) from error
    except OSError as error:
        raise StartupError(f"{error.filename or folder}: cannot be read: {error.strerror or error}") from error
    for name in files_of(folder):
        if name not in named and not any(part.startswith(".") for part in name.split("/")):
            raise StartupError(
                f"{folder}: holds {name}, which {MANIFEST} does not name, so nobody has verified it; remove it",
                ExitCode.DATA,
            )


def _description(folder: Path) -> ArtifactDescription:
    path = folder / DESCRIPTION_FILE
    try:
        return ArtifactDescription.model_validate_json(path.read_bytes())
    except OSError as error:
        raise StartupError(f"{path}: {error.strerror}; export the model again", ExitCode.DATA) from error
    except ValidationError as error:
        raise StartupError(f"{path}: {field_errors(error, ArtifactDescription)[0]}", ExitCode.DATA) from error
