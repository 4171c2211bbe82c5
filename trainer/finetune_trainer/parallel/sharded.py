"""What strategies that shard the model have in common: saving whole tensors, a share from each rank."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from finetune_trainer.loop.optimizer import check_state
from finetune_trainer.parallel.shares import Shapes, Shared, owners
from finetune_trainer.parallel.strategy import check_names


class Sharded(ABC):
    """Implements `Strategy` on top of four operations on one parameter, which every rank calls together."""

    sharded = True
    model: Any
    module: Any

    def __init__(self, shapes: Shapes, device: torch.device) -> None:
        self._device = device
        self._shapes = shapes
        self._owner = owners(shapes, dist.get_world_size())

    @abstractmethod
    def warm_up(self, objective: Callable[[], Tensor]) -> None: ...

    @abstractmethod
    def micro_batch(self, last: bool) -> AbstractContextManager[Any]: ...

    @abstractmethod
    def backward(self, objective: Tensor) -> None: ...

    @abstractmethod
    def step(self, rate: float) -> Tensor: ...

    @abstractmethod
    def clear_gradients(self) -> None: ...

    @abstractmethod
    def _whole(self, name: str) -> Tensor:
        """A parameter, joined from its shards."""

    @abstractmethod
    def _whole_state(self, name: str) -> dict[str, Tensor]:
        """Its optimizer state, joined."""

    @abstractmethod
    def _put(self, name: str, whole: Tensor) -> None:
        """Cut up a parameter."""

    @abstractmethod
    def _put_state(self, name: str, whole: Mapping[str, Tensor]) -> None:
        """Cut up its optimizer state."""

    def shapes(self) -> Shapes:
        return self._shapes

    def weights(self) -> dict[str, Tensor]:
        return {name: _kept(whole) for name, whole in self._each() if self._mine(name)}

    def consolidated(self) -> dict[str, Tensor]:
        return {name: _kept(whole) for name, whole in self._each() if dist.get_rank() == 0}

    def optimizer_state(self) -> dict[str, Tensor]:
        kept: dict[str, Tensor] = {}
        for name in self._shapes:
            state = self._whole_state(name)
            if self._mine(name):
                kept |= {f"{name}/{key}": _kept(value) for key, value in state.items()}
        return kept

    def loss_scaling(self) -> dict[str, Any]:
        return {}

    def load_loss_scaling(self, saved: dict[str, Any]) -> None:
        if saved:
            raise ValueError("the run was scaled for Float16, which is refused with shards")

    def share(self, saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: saved[name].clone() for name in saved if self._mine(name)}

    def load_share(self, share: Mapping[str, Tensor]) -> None:
        self.load_weights(Shared(share, self._owner, self._shapes, self._device))

    def load_weights(self, saved: Mapping[str, Tensor]) -> None:
        check_names(self._shapes, saved)
        for name in self._shapes:
            self._put(name, saved[name])

    def load_optimizer_state(self, saved: Mapping[str, Tensor]) -> None:
        parts: dict[str, list[str]] = {}
        for key in saved:
            name, part = key.rsplit("/", 1)
            parts.setdefault(name, []).append(part)
        check_state(self._shapes, parts)
        for name, keys in sorted(parts.items()):
            self._put_state(name, {key: saved[f"{name}/{key}"] for key in keys})

    def _each(self) -> Iterator[tuple[str, Tensor]]:
        return ((name, self._whole(name)) for name in self._shapes)

    def _mine(self, name: str) -> bool:
        return self._owner[name] == dist.get_rank()


def _kept(whole: Tensor) -> Tensor:
    return whole.detach().to("cpu", copy=True)
