"""Stacks of every worker of a pod: each writes to a file of its own when it is signalled, so that they never mix.

faulthandler writes from within the signal handler, without Python's locks: it also answers for a process that is
stuck in C. What does not answer is stopped, or waits in the kernel, and /proc knows which.
https://docs.python.org/3/library/faulthandler.html
"""

import contextlib
import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from finetune_api.reports import RankStack
from finetune_trainer.redaction import redact

WAIT_SECONDS = 3.0
QUIET_SECONDS = 0.2
"""A file that does not grow for so long is complete."""
FRAMES = 8
FRAME = re.compile(r'^  File "(?P<path>[^"]*)", line (?P<line>\d+) in (?P<function>.+)$', re.MULTILINE)
TRAINING = re.compile(r'launch/worker\.py", line \d+ in work$', re.MULTILINE)
"""The thread of the recipe: Ray's workers have another one for signals."""
STATES = {
    "T": "stopped by a signal",
    "t": "stopped by a debugger",
    "D": "waits in the kernel and cannot be interrupted",
    "Z": "has ended",
    "X": "has ended",
}


def stacks_file(folder: Path, rank: int) -> Path:
    """Where a worker writes its stacks."""
    return folder / f"rank-{rank}.stacks"


@dataclass(frozen=True)
class Dump:
    """What one worker was at."""

    rank: int
    pid: int
    text: str
    """As faulthandler wrote it: all threads; empty when it did not answer."""
    state: str = ""
    """Why it did not answer."""

    def brief(self) -> RankStack:
        """For the status: the innermost calls of the main thread, without secrets that names in them spell."""
        return RankStack(rank=self.rank, state=self.state, text=redact(main_thread(self.text)))


def collect(folder: Path, pids: dict[int, int], wait: float = WAIT_SECONDS) -> list[Dump]:
    """Ask every worker (process id by rank) at once, and wait for all of them."""
    files = {rank: stacks_file(folder, rank) for rank in pids}
    # A process that has not come so far as to make its file would be ended by the signal.
    asked = {rank: _size(path) for rank, path in files.items() if path.exists()}
    for rank in asked:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pids[rank], signal.SIGUSR1)
    _await_quiet({rank: files[rank] for rank in asked}, dict(asked), wait)
    return [_dump(rank, pid, files[rank], asked.get(rank)) for rank, pid in sorted(pids.items())]


def main_thread(text: str) -> str:
    """`ranks.py:54 maximum < stop.py:80 at < …`, the innermost call first."""
    blocks = re.split(r"\n(?=(?:Current thread|Thread) 0x)", text)
    by_name = next((block for block in blocks if TRAINING.search(block)), None)
    chosen = by_name or next((block for block in reversed(blocks) if block.startswith("Current thread")), blocks[-1])
    frames = [f"{Path(m['path']).name}:{m['line']} {m['function']}" for m in FRAME.finditer(chosen)]
    return " < ".join(frames[:FRAMES])


def _dump(rank: int, pid: int, path: Path, before: int | None) -> Dump:
    if before is None:
        return Dump(rank, pid, "", "was only starting")
    with path.open(errors="replace") as file:
        file.seek(before)
        text = file.read()
    return Dump(rank, pid, text, "" if text else _state(pid))


def _await_quiet(files: dict[int, Path], before: dict[int, int], wait: float) -> None:
    """Until every file has grown and stopped growing, or the time is up."""
    deadline = time.monotonic() + wait
    sizes, changed = before, time.monotonic()
    while time.monotonic() < deadline:
        now = {rank: _size(path) for rank, path in files.items()}
        if now != sizes:
            sizes, changed = now, time.monotonic()
        if all(sizes[rank] > before[rank] for rank in files) and time.monotonic() - changed > QUIET_SECONDS:
            return
        time.sleep(0.02)


def _size(path: Path) -> int:
    return path.stat().st_size


def _state(pid: int) -> str:
    """Why a process does not answer, in words. https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html"""
    try:
        letter = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        place = Path(f"/proc/{pid}/wchan").read_text().strip("0 \n")
    except OSError:
        return "does not answer"
    why = STATES.get(letter, "does not answer")
    return f"{why} ({letter}{f', in {place}' if place else ''})"
