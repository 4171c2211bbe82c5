"""Work that one process of a node does and the others find."""

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from finetune_trainer.errors import TrainerError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DiskFullError(TrainerError):
    """The scratch volume has no room. Another node may have."""


def built_once(folder: Path, build: Callable[[Path], None]) -> Path:
    """`folder`, filled by `build(temporary)` in whichever process comes first; the others wait for it.

    A file lock, not a collective: a slow tokenisation never runs into a process group's timeout. An error of
    `build` leaves nothing behind.

    Raises:
        DiskFullError: There is no room for it.
    """
    with locked(folder.with_suffix(".lock")):
        if not folder.exists():
            temporary = folder.with_suffix(".tmp")
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            try:
                build(temporary)
            except BaseException as error:
                shutil.rmtree(temporary, ignore_errors=True)  # it may be what fills the disk
                if isinstance(error, OSError) and error.errno in FULL:
                    raise DiskFullError(_no_room(error, folder.parent)) from error
                raise
            temporary.rename(folder)
    return folder


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """One process of the node at a time; the lock ends with the process that holds it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _no_room(error: OSError, folder: Path) -> str:
    free = shutil.disk_usage(folder).free // 2**20
    return (
        f"{folder}: {os.strerror(error.errno or 0)}, {free} MiB free after what was begun is removed; data needs room "
        "there twice, and for its tokens: give the pod's volume `scratch` more, or shorten the data"
    )
