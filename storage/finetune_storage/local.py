"""Folders of this machine: mounted volumes (`pvc://`) and paths in the image (`file://`)."""

import errno
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from finetune_api import manifest
from finetune_storage.errors import AccessDeniedError, NotFoundError, UnavailableError, UriError
from finetune_storage.location import Entry

TEMPORARY = "tmp-"
"""Names that begin with this are unfinished, and whoever finds them old may delete them."""
ASIDE = f"{TEMPORARY}old-"
"""What stood in a place while its replacement is moved there."""


class LocalStorage:
    """A folder or a file that is mounted in this pod."""

    def __init__(self, uri: str, root: Path) -> None:
        self.uri = uri
        self.root = root

    def path(self, path: str = "") -> Path:
        """The local path of something in this place."""
        return self.root / path if path else self.root

    def exists(self, path: str = "") -> bool:
        place = self.path(path)
        with self._errors(path):
            return place.is_file() or (place.is_dir() and any(place.iterdir()))

    def files(self, path: str = "") -> list[Entry]:
        place = self.path(path)
        with self._errors(path):
            if place.is_file():
                return [Entry(place.name, place.stat().st_size)]
            names = [name for name in place.rglob("*") if name.is_file()]
            relative = ((name.relative_to(place), name.stat().st_size) for name in names)
            return sorted(
                (Entry(name.as_posix(), size) for name, size in relative if not _unfinished(name)),
                key=lambda entry: entry.path,
            )

    def folders(self) -> list[str]:
        with self._errors():
            if not self.root.is_dir():
                return []
            return sorted(name.name for name in self.root.iterdir() if name.is_dir())

    def read(self, path: str) -> bytes:
        with self._errors(path):
            return self.path(path).read_bytes()

    def open(self, path: str) -> BinaryIO:
        with self._errors(path):
            return (self.root if self.root.is_file() else self.path(path)).open("rb")

    def fetch(self, target: Path, path: str = "", patterns: Sequence[str] | None = None) -> Path:
        place = self.path(path)
        with self._errors(path):
            if not place.exists():
                raise NotFoundError(self._nothing(path))
            if place.is_dir():
                os.listdir(place)
            else:
                place.open("rb").close()
        return place

    def upload(self, source: Path, path: str = "") -> None:
        place = self.path(path)
        with self._errors(path):
            place.parent.mkdir(parents=True, exist_ok=True)
            _clear_leftovers(place, TEMPORARY)
            if place.exists():
                _clear_leftovers(place, ASIDE)
            staging = place.parent / f"{TEMPORARY}{place.name}-{uuid.uuid4().hex[:8]}"
            try:
                shutil.copytree(source, staging)
                _make_durable(staging)
                self._verify(staging, path)
                replace_folder(staging, place)
            except BaseException:
                shutil.rmtree(staging, ignore_errors=True)
                raise
            _clear_leftovers(place, ASIDE)  # the last good copy until now, where one was killed between its renames

    def check_writable(self) -> None:
        """Told by the nearest folder above that is there; nothing is written.

        Raises:
            UriError: It is a file.
            AccessDeniedError: This user may not write there, or the volume is mounted to read only.
        """
        place = next(one for one in (self.root, *self.root.parents) if one.exists())
        with self._errors():
            if not place.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(place))
            if not os.access(place, os.W_OK | os.X_OK):
                read_only = os.statvfs(place).f_flag & os.ST_RDONLY
                code = errno.EROFS if read_only else errno.EACCES
                raise PermissionError(code, os.strerror(code), str(place))

    def delete(self, path: str = "") -> None:
        place = self.path(path)
        with self._errors(path):
            if place.is_dir():
                shutil.rmtree(place)
            else:
                place.unlink(missing_ok=True)

    def _verify(self, folder: Path, path: str) -> None:
        if not (folder / manifest.MANIFEST).exists():
            return
        try:
            manifest.verify_folder(folder)
        except manifest.ManifestError as error:
            raise UnavailableError(f"{self._name(path)}: verification after writing failed: {error}") from error

    @contextmanager
    def _errors(self, path: str = "") -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise NotFoundError(self._nothing(path)) from error
        except PermissionError as error:
            raise AccessDeniedError(
                f"{self._name(path)}: {error.strerror} ({error.filename}); "
                f"let user {os.getuid()} of the pod read and write the volume (podTemplate securityContext.fsGroup)"
            ) from error
        except (NotADirectoryError, FileExistsError) as error:
            raise UriError(f"{self._name(path)}: {error.filename} is a file; name a folder") from error
        except OSError as error:
            raise UnavailableError(f"{self._name(path)}: {error.strerror or error}") from error

    def _nothing(self, path: str) -> str:
        mend = "check the claim and the path, and that the data is on the volume"
        return f"{self._name(path)}: there is nothing at {self.path(path)}; {mend}"

    def _name(self, path: str) -> str:
        return f"{self.uri.rstrip('/')}/{path}" if path else self.uri


def replace_folder(new: Path, place: Path) -> None:
    """Put a finished folder in its place with a rename; what was there before is gone afterwards.

    A rename cannot replace a folder that has files, so the old one steps aside first.
    """
    aside = place.parent / f"{ASIDE}{place.name}-{uuid.uuid4().hex[:8]}"
    if place.exists():
        place.rename(aside)
    new.rename(place)
    manifest.fsync(place.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _clear_leftovers(place: Path, prefix: str) -> None:
    """What uploads to this very place left there that were killed: of a large model as much again each time."""
    left = re.compile(rf"{prefix}{re.escape(place.name)}-[0-9a-f]{{8}}")
    for other in place.parent.iterdir():
        if left.fullmatch(other.name):
            shutil.rmtree(other, ignore_errors=True)


def _unfinished(path: Path) -> bool:
    return any(part.startswith(TEMPORARY) for part in path.parts)


def _make_durable(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        manifest.fsync(path)
