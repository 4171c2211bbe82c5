"""The processes that train together."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

TIMEOUT = timedelta(minutes=30)


def device_of(local_rank: int) -> torch.device:
    """A GPU of its own for every process of a node, where there are any."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.cuda.set_device(local_rank)
    # TensorFloat-32 for what stays in float32: eight times the speed, and enough digits for training.
    torch.set_float32_matmul_precision("high")
    return torch.device("cuda", local_rank)


@contextmanager
def process_group(world_size: int, device: torch.device, always: bool = False) -> Iterator[None]:
    """Joins torch.distributed by the environment that torchrun sets (RANK, MASTER_ADDR …).

    Tensors on the host go over gloo and tensors on a GPU over NCCL, in one group. A world of one has none, unless it is
    `always` wanted.
    """
    if (world_size == 1 and not always) or dist.is_initialized():
        yield
        return
    backend = "gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl"
    # Without a GPU to bind to, device_id must stay unset.
    bound = device if device.type == "cuda" else None
    alone: dict[str, Any] = {"store": dist.HashStore(), "rank": 0, "world_size": 1} if world_size == 1 else {}
    dist.init_process_group(backend, timeout=TIMEOUT, device_id=bound, **alone)
    try:
        yield
    finally:
        dist.destroy_process_group()


def sum_over_ranks(tensor: torch.Tensor) -> torch.Tensor:
    """In place; a world of one has nothing to add."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(tensor)
    return tensor
