"""How long processes wait for a processor: what they do later for that reason, another machine would not."""

import os
from collections.abc import Iterable
from pathlib import Path


def waited_seconds(pid: int) -> float:
    """That all threads of a process were runnable without running, since they began; 0 for a process that is gone.

    https://docs.kernel.org/scheduler/sched-stats.html
    """
    total = 0
    for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            total += int(thread.read_text().split()[1])
        except OSError:
            continue  # the thread has ended
    return total / 1e9


class Stopwatch:
    """Tells how long this process and the given ones had to wait for a processor since it was made."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._before = {pid: waited_seconds(pid) for pid in {os.getpid(), *pids}}

    def waited(self) -> float:
        return sum(max(0.0, waited_seconds(pid) - before) for pid, before in self._before.items())
