"""How many threads a process may use: PyTorch's default is every processor of the machine, not of the pod."""

import math
import os
from pathlib import Path

import torch

CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def set_threads(processes: int) -> int:
    """Shares the pod's processors among its `processes`; OMP_NUM_THREADS, where it is set, has the last word.

    More threads than processors make them wait for each other: a pod limited to 2 CPUs on a node of 64
    would start 64.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, processors() // processes))
    return torch.get_num_threads()


def processors(limit: Path = CPU_LIMIT) -> int:
    """Processors that this container may use, by its affinity and its CPU limit (cgroup v2)."""
    available = len(os.sched_getaffinity(0))
    if not limit.exists():
        return available
    quota, period = limit.read_text().split()
    return available if quota == "max" else min(available, math.ceil(int(quota) / int(period)))
