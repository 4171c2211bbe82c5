"""The processes that train together."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

TIMEOUT = timedelta(minutes=30)


def device_of(local_rank: int) -> torch.device:
    """A GPU of its own for every process of a node, where there are any."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


@contextmanager
def process_group(world_size: int, device: torch.device) -> Iterator[None]:
    """Joins torch.distributed by the environment that torchrun sets (RANK, MASTER_ADDR …).

    Tensors on the host go over gloo and tensors on a GPU over NCCL, in one group.
    """
    if world_size == 1 or dist.is_initialized():
        yield
        return
    backend = "gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl"
    # Without a GPU to bind to, device_id must stay unset.
    bound = device if device.type == "cuda" else None
    dist.init_process_group(backend, timeout=TIMEOUT, device_id=bound)
    try:
        yield
    finally:
        dist.destroy_process_group()


def sum_over_ranks(tensor: torch.Tensor) -> torch.Tensor:
    """In place; a world of one has nothing to add."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def threads_for(processes: int) -> int:
    """Threads of one of several processes on this node: all of its processors, none of them twice.

    Processors that the container may use, not those of the machine.
    """
    asked_for = os.environ.get("OMP_NUM_THREADS")
    if asked_for and asked_for.isdigit():
        return int(asked_for)
    return max(1, len(os.sched_getaffinity(0)) // processes)
