"""The workers that Ray has started in this pod, as they sign on in a folder that they share with the launcher.

Each start of the workers is a group with a folder of its own: what a lost group left is not taken for news of the next.
"""

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from finetune_api.reports import TerminationMessage
from finetune_trainer import termination
from finetune_trainer.launch.verdict import WorkerEnd, exit_code, noted
from finetune_trainer.launch.worker import memory_file, message_file

ENV_CONFIG = "FINETUNE_CONFIG"
"""Where this pod has job.json."""
STOP, FAREWELL, DRIVER_WORDS = "stop", "farewell", "driver.json"
"""Files in the folder of the launcher: the workers are to stop; all of the gang is done; what the driver said last."""
GROUP, RANK, PROCESS = "group-", "rank-", ".pid"


@dataclass(frozen=True)
class Group:
    """The workers of this pod that were started together."""

    folder: Path

    def processes(self) -> dict[int, int]:
        """Process id by rank, of all that signed on."""
        found = {}
        for file in self.folder.glob(f"{RANK}*{PROCESS}"):
            with contextlib.suppress(ValueError):  # just being written
                found[int(file.name.removeprefix(RANK).removesuffix(PROCESS))] = int(file.read_text())
        return dict(sorted(found.items()))

    def words(self, rank: int) -> TerminationMessage | None:
        """What a worker said last; None while it trains, and for ever when it was killed."""
        return termination.read(message_file(self.folder, rank))

    def at_work(self) -> dict[int, int]:
        """Process id by rank, of those that live and have not said their last words."""
        return {rank: pid for rank, pid in self.processes().items() if is_alive(pid) and self.words(rank) is None}

    def ends(self, by_us: bool = False) -> list[WorkerEnd]:
        """How workers ended; those at work count as `by_us` when they are about to be ended."""
        at_work = self.at_work()
        return [self._end(rank, rank in at_work) for rank in self.processes() if by_us or rank not in at_work]

    def _end(self, rank: int, by_us: bool) -> WorkerEnd:
        path = message_file(self.folder, rank)
        message = termination.read(path)
        if message is None:
            return WorkerEnd(rank, -signal.SIGKILL, by_us=by_us, memory=noted(memory_file(self.folder, rank)))
        return WorkerEnd(rank, exit_code(message), message, when=path.stat().st_mtime)


def sign_on(messages: Path, name: str, rank: int) -> Path:
    """Called by a worker: the folder of its group, in which the launcher finds it."""
    folder = messages / f"{GROUP}{name}"
    folder.mkdir(exist_ok=True)
    (folder / f"{RANK}{rank}{PROCESS}").write_text(str(os.getpid()))
    return folder


def newest(messages: Path) -> Group | None:
    """The group that Ray started last in this pod."""
    folders = [(folder.stat().st_mtime_ns, folder) for folder in messages.glob(f"{GROUP}*")]
    return Group(max(folders)[1]) if folders else None


def kill(messages: Path) -> None:
    """Ends every worker that is left; one that is stopped does not end with Ray's node."""
    for group in messages.glob(f"{GROUP}*"):
        for pid in Group(group).processes().values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be collected does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")
