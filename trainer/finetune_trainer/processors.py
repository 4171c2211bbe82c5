"""How many processors a container may use, and the share of each of its processes.

PyTorch's default is every processor of the machine: a pod limited to 2 CPUs on a node of 64 would start 64 threads,
which wait for each other. torchrun's is one, which leaves the others idle.
"""

import math
import os
from pathlib import Path

CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def usable_processors(limit: Path = CPU_LIMIT) -> int:
    """Processors that this container may use: its CPU set, or its cgroup v2 quota ("200000 100000") if lower."""
    available = len(os.sched_getaffinity(0))
    try:
        quota, _, period = limit.read_text().strip().partition(" ")
    except OSError:  # no cgroup v2
        return available
    if not quota.isdigit() or not period.isdigit():
        return available
    return min(available, max(1, math.ceil(int(quota) / int(period))))


def threads_per_process(processes: int, processors: int) -> int:
    """An equal share of the processors, at least one."""
    return max(1, processors // processes)


def set_threads(processes: int) -> None:
    """Shares the processors among a pod's `processes`; OMP_NUM_THREADS, where it is set, has the last word."""
    if "OMP_NUM_THREADS" not in os.environ:
        import torch

        torch.set_num_threads(threads_per_process(processes, usable_processors()))
