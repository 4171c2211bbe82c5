"""Work that one process of a node does and the others find."""

import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def built_once(folder: Path, build: Callable[[Path], None]) -> Path:
    """`folder`, filled by `build(temporary)` in whichever process comes first; the others wait for it.

    A file lock, not a collective: a slow tokenisation never runs into a process group's timeout. An error of
    `build` leaves nothing behind.
    """
    with locked(folder.with_suffix(".lock")):
        if not folder.exists():
            temporary = folder.with_suffix(".tmp")
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            build(temporary)
            temporary.rename(folder)
    return folder


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """One process of the node at a time; the lock ends with the process that holds it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
