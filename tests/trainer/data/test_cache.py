"""Work that is done once a node."""

import errno
import multiprocessing
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from finetune_trainer.data.cache import DiskFullError, built_once


def _build(folder: Path) -> None:
    """Leaves others time to begin too, if nothing keeps them from it."""
    log = folder.parent / "log"
    with log.open("a") as out:
        out.write("built\n")
    until = time.monotonic() + 0.5
    while time.monotonic() < until and log.read_text() == "built\n":
        time.sleep(0.01)
    (folder / "content").write_text("x" * 1000)


def _process(folder: Path, together: Barrier | None = None) -> None:
    if together:
        together.wait()
    assert (built_once(folder, _build) / "content").read_text() == "x" * 1000


def test_several_processes_build_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    together = context.Barrier(4)
    processes = [context.Process(target=_process, args=(tmp_path / "key", together)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    assert (tmp_path / "log").read_text() == "built\n"


def test_a_failed_build_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "content").write_text("half")
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        built_once(tmp_path / "key", fail)
    assert not (tmp_path / "key").exists()
    assert not (tmp_path / "key.tmp").exists()
    _process(tmp_path / "key")


def test_a_full_disk_is_named_with_what_to_do(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "content").write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DiskFullError, match=rf"{tmp_path}: No space left .* MiB free .* volume `scratch` more"):
        built_once(tmp_path / "key", fill)
    assert not (tmp_path / "key.tmp").exists()
