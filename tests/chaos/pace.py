"""How long processes wait for a processor: what they do later for that reason, another machine would not."""

import os
from collections.abc import Iterable
from pathlib import Path


def waited_seconds(pid: int) -> float:
    """That the main thread, which runs the event loop, was runnable without running; 0 for a process that is gone.

    Waits of other threads hold up nobody who waits for the loop, and all of them overlap.
    https://docs.kernel.org/scheduler/sched-stats.html
    """
    try:
        return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


class Stopwatch:
    """Tells how long this process and the given ones had to wait for a processor since it was made."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._before = {pid: waited_seconds(pid) for pid in {os.getpid(), *pids}}

    def waited(self) -> float:
        """Of the process that waited longest: two that wait at the same time lose that time once."""
        return max(max(0.0, waited_seconds(pid) - before) for pid, before in self._before.items())
