"""Who keeps which tensor when a sharded model is saved: each rank some whole ones, together all.

Whole tensors, rather than slices, make a checkpoint independent of how many ranks wrote it and of how they sharded the
model; a share for each rank keeps any of them from having to hold, or write, all.
"""

from collections.abc import Iterator, Mapping

import torch
import torch.distributed as dist
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]


def owners(shapes: Shapes, world_size: int) -> dict[str, int]:
    """The rank that keeps each tensor: the greatest first, each to whoever has least. The same on every rank."""
    load = [0] * world_size
    chosen = {}
    for name in sorted(shapes, key=lambda name: (-_size(shapes[name]), name)):
        rank = load.index(min(load))
        chosen[name] = rank
        load[rank] += _size(shapes[name])
    return {name: chosen[name] for name in shapes}


def _size(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()


class Shared(Mapping[str, Tensor]):
    """All tensors, out of every rank's share. Each reading is a broadcast: all ranks read the same, in one order."""

    def __init__(self, share: Mapping[str, Tensor], owner: Mapping[str, int], shapes: Shapes, device: torch.device):
        self._share = share
        self._owner = owner
        self._shapes = shapes
        self._device = device

    def __getitem__(self, name: str) -> Tensor:
        if self._owner[name] == dist.get_rank():
            tensor = self._share[name].to(self._device)
        else:
            tensor = torch.empty(self._shapes[name], device=self._device)
        dist.broadcast(tensor, self._owner[name])
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._owner)

    def __len__(self) -> int:
        return len(self._owner)
