"""Repositories of the Hugging Face Hub, or of a mirror that speaks its API (HF_ENDPOINT). Read only."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, BinaryIO, Literal
from urllib.parse import unquote

from finetune_storage.errors import AccessDeniedError, NotFoundError, StorageError, UnavailableError, UriError
from finetune_storage.location import Entry
from finetune_storage.uri import split_uri

FORM = re.compile(r"^(?P<repository>[^/@]+(?:/[^/@]+)?)(?:@(?P<revision>[^/]+))?(?:/(?P<path>.+))?$")
BLOCK = 2**18
"""Bytes that a read transfers at least."""
TOKEN_MEND = "set HF_TOKEN in the Secret that credentials.secretName names"


class HubStorage:
    """A repository at one revision, or a folder or file in it.

    `hf://ORG/NAME`, `hf://ORG/NAME@REVISION/PATH`, and `hf://datasets/ORG/NAME` for a dataset wherever it is used.
    What is fetched stays in the Hub's own cache (HF_HOME), where `HF_HUB_OFFLINE=1` finds it again.
    """

    def __init__(self, uri: str, revision: str | None = None, kind: Literal["model", "dataset"] = "model") -> None:
        parts = split_uri(uri)
        name = unquote(f"{parts.netloc}{parts.path}").strip("/")
        if name.startswith(("datasets/", "models/")):
            kind = "dataset" if name.startswith("datasets/") else "model"
            name = name.partition("/")[2]
        match = FORM.match(name)
        if match is None:
            raise UriError(f"{uri}: expected hf://ORG/NAME")
        self.uri = uri
        self._kind = kind
        self._repository = match["repository"]
        self._revision = revision or match["revision"]
        self._path = match["path"] or ""

    def exists(self, path: str = "") -> bool:
        try:
            return bool(self.files(path))
        except NotFoundError:
            return False

    def files(self, path: str = "") -> list[Entry]:
        import huggingface_hub

        inside = self._inside(path)
        with self._errors():
            tree = huggingface_hub.HfApi().list_repo_tree(
                self._repository, recursive=True, revision=self._revision, repo_type=self._kind
            )
            sizes = {item.path: item.size for item in tree if isinstance(item, huggingface_hub.hf_api.RepoFile)}
        if inside in sizes:
            return [Entry(inside.rpartition("/")[2], sizes[inside])]
        prefix = f"{inside}/" if inside else ""
        below = [Entry(name.removeprefix(prefix), size) for name, size in sizes.items() if name.startswith(prefix)]
        return sorted(below, key=lambda entry: entry.path)

    def folders(self) -> list[str]:
        return sorted({entry.path.partition("/")[0] for entry in self.files() if "/" in entry.path})

    def read(self, path: str) -> bytes:
        import huggingface_hub

        with self._errors():
            place = huggingface_hub.hf_hub_download(
                self._repository, self._inside(path), revision=self._revision, repo_type=self._kind
            )
            return Path(place).read_bytes()

    def open(self, path: str) -> BinaryIO:
        import huggingface_hub

        inside = self._path if self._path.rpartition("/")[2] == path else self._inside(path)
        repository = f"datasets/{self._repository}" if self._kind == "dataset" else self._repository
        with self._errors():
            file: BinaryIO = huggingface_hub.HfFileSystem().open(
                f"{repository}/{inside}", "rb", revision=self._revision, block_size=BLOCK
            )
            return file

    def fetch(self, target: Path, path: str = "", patterns: Sequence[str] | None = None) -> Path:
        import huggingface_hub

        inside = self._inside(path)
        wanted = [f"{inside}/{pattern}" for pattern in patterns or ["*"]] + [inside] if inside else patterns
        with self._errors():
            folder = huggingface_hub.snapshot_download(
                self._repository,
                revision=self._revision,
                repo_type=self._kind,
                allow_patterns=list(wanted) if wanted else None,
                cache_dir=None if _has_own_cache() else target / "hub",
                tqdm_class=_silent_progress(),
            )
        place = Path(folder) / inside
        if not place.is_file() and not _any_match(place, patterns):
            kind = f" that matches {', '.join(patterns)}" if patterns else ""
            raise NotFoundError(f"{self._name()}: there is no file{kind} at {inside or 'its root'}; check the path")
        return place

    def commit(self) -> str:
        """The commit that the revision stands for; offline, in the Hub's own cache."""
        import huggingface_hub

        with self._errors():
            folder = huggingface_hub.snapshot_download(
                self._repository,
                revision=self._revision,
                repo_type=self._kind,
                allow_patterns=["config.json"],
                tqdm_class=_silent_progress(),
            )
        return Path(folder).name

    def upload(self, source: Path, path: str = "") -> None:
        raise UriError(f"{self.uri}: cannot be written; use s3://, pvc:// or file://")

    def delete(self, path: str = "") -> None:
        raise UriError(f"{self.uri}: cannot be written; use s3://, pvc:// or file://")

    def _inside(self, path: str) -> str:
        return "/".join(part for part in (self._path, path) if part)

    def _name(self) -> str:
        return f"{self.uri} at revision {self._revision}" if self._revision else self.uri

    @contextmanager
    def _errors(self) -> Iterator[None]:
        import httpx2
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils import logging

        # Its own handler would print again what the program's log has, and with the secrets that are masked there.
        logging.get_logger().handlers.clear()
        try:
            yield
        except HFValidationError as error:
            raise UriError(f"{self.uri}: {error}") from error
        except (OSError, httpx2.HTTPError) as error:
            raise self._translated(error) from error

    def _translated(self, error: Exception) -> StorageError:
        from huggingface_hub import constants, errors

        name, endpoint = self._name(), constants.ENDPOINT
        if isinstance(error, errors.GatedRepoError):
            return AccessDeniedError(f"{name}: access is granted by its owner at {endpoint}; ask, then {TOKEN_MEND}")
        if isinstance(error, errors.RevisionNotFoundError):
            return NotFoundError(f"{name}: {endpoint} has the {self._kind} but not this revision; correct it")
        if isinstance(error, errors.RepositoryNotFoundError):
            return NotFoundError(
                f"{name}: {endpoint} has no {self._kind} {self._repository!r} that we may see; correct the name, "
                f"or if it is private {TOKEN_MEND}"
            )
        if isinstance(error, errors.RemoteEntryNotFoundError) or type(error) is FileNotFoundError:  # of HfFileSystem
            return NotFoundError(f"{name}: there is no such file in the repository; check the path")
        if isinstance(error, errors.LocalEntryNotFoundError) and constants.HF_HUB_OFFLINE:
            return NotFoundError(
                f"{name}: HF_HUB_OFFLINE is set and it is not in the cache at {constants.HF_HUB_CACHE}"
            )
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            return AccessDeniedError(f"{name}: {endpoint} refuses the token (HTTP {status}); {TOKEN_MEND}")
        cause = error.__cause__ or error
        return UnavailableError(
            f"{name}: {endpoint} cannot be used: {type(cause).__name__}: {str(cause)[:300]}; "
            "check HF_ENDPOINT and the network policy of the pods"
        )


def _any_match(folder: Path, patterns: Sequence[str] | None) -> bool:
    """Whether a folder of the cache, which may hold files of earlier calls, has one that was asked for."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return any(patterns is None or any(fnmatch(name, pattern) for pattern in patterns) for name in names)


def _has_own_cache() -> bool:
    return any(os.environ.get(name) for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"))


def _silent_progress() -> Any:
    """Progress bars that do not draw: a pod's log is no terminal."""
    from tqdm import tqdm

    class Silent(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            options.pop("name", None)
            super().__init__(*args, **{**options, "disable": True})

    return Silent
