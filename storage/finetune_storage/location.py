"""The interface that every kind of place has."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol


@dataclass(frozen=True)
class Entry:
    """One file of a place: its path relative to the place, its size in bytes and its age."""

    path: str
    size: int
    modified: float = field(default=0.0, compare=False)
    """When it was last written, seconds since the epoch; 0 where that is not known."""


class Storage(Protocol):
    """A file or a folder named by a URI.

    Paths are relative to the URI, in POSIX form; "" is the place itself. All methods raise the errors of
    `finetune_storage.errors` with the URI in the message: NotFoundError and AccessDeniedError for what the author of
    the job can mend, UnavailableError for what time may mend.
    """

    uri: str

    def exists(self, path: str = "") -> bool:
        """Whether there is a file or a folder that is not empty."""

    def files(self, path: str = "") -> list[Entry]:
        """Every file below a folder, sorted by path; [] when there is none. Unfinished files are left out."""

    def folders(self) -> list[str]:
        """Names of the folders directly in this place, sorted."""

    def read(self, path: str) -> bytes:
        """The content of a small file."""

    def open(self, path: str) -> BinaryIO:
        """One of `files()`, for reading anywhere in it: only what is read is transferred.

        A file that is the place itself is opened by its name. Reading raises OSError.
        """

    def fetch(self, target: Path, path: str = "", patterns: Sequence[str] | None = None) -> Path:
        """Bring a file or a folder to local disk and return where it is.

        A place that is a local path already is returned as it is. A download appears below `target`, a folder that
        may hold other things, in one go when it is complete: a process that is killed leaves nothing that looks
        finished. `patterns` (fnmatch, against the relative paths) choose files of a folder.
        """

    def upload(self, source: Path, path: str = "") -> None:
        """Copy a local folder to this place, replacing what is there; `manifest.json` goes last, all is verified."""

    def delete(self, path: str = "") -> None:
        """Remove a file or a folder; nothing happens when there is none."""
