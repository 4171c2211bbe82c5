"""The processes of one run, seen as a group that can agree on things."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """Small collectives over gloo on the host, beside whatever backend the training uses.

    A world of one needs no process group and never communicates.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    group: Any = None

    @classmethod
    def join(cls, rank: int, world_size: int, local_rank: int, timeout: timedelta = timedelta(hours=2)) -> "Ranks":
        """The group of all processes; every rank must call it, after `init_process_group`.

        `timeout` is for the slowest thing that one rank does while the others wait: the upload of a checkpoint.
        """
        if world_size == 1:
            return cls(rank, world_size, local_rank)
        return cls(rank, world_size, local_rank, dist.new_group(backend="gloo", timeout=timeout))

    def gather(self, value: T) -> list[T]:
        """Every rank's value, in the order of the ranks, on every rank."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.group)
        return values

    def broadcast(self, value: T | None) -> T:
        """Rank 0's value on every rank; what the others give is not looked at."""
        box: list[Any] = [value if self.rank == 0 else None]
        if self.world_size > 1:
            dist.broadcast_object_list(box, src=0, group=self.group)
        return box[0]

    def maximum(self, values: list[int]) -> list[int]:
        """The greatest of every rank's numbers, position by position: the cheapest way to agree."""
        if self.world_size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.int64)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX, group=self.group)
        return [int(value) for value in tensor.tolist()]

    def barrier(self) -> None:
        """Wait for every rank."""
        self.maximum([0])
