"""PyTorch's FSDP2: each rank holds a slice of every parameter; a layer is joined while it computes.

https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from finetune_api.distributed import Fsdp
from finetune_api.training import Training
from finetune_trainer.loop.optimizer import trained_parameters
from finetune_trainer.loop.updater import Updater
from finetune_trainer.parallel.arrival import arriving
from finetune_trainer.parallel.sharded import Sharded
from finetune_trainer.ranks import Ranks


class FullySharded(Sharded):
    """Implements `Strategy`."""

    def __init__(self, model: Any, training: Training, spec: Fsdp, device: torch.device, ranks: Ranks) -> None:
        shapes = {name: tuple(parameter.shape) for name, parameter in trained_parameters(model).items()}
        shard(model, training.precision, spec, device, ranks)
        # Sharding puts new parameters in place of the old ones.
        self._updater = Updater(model, training, device)
        self._named, self._state = self._updater.named, self._updater.optimizer.state
        self.model = self.module = model
        super().__init__(shapes, device)

    def warm_up(self, objective: Callable[[], Tensor]) -> None:
        if self._device.type == "cuda":
            self.backward(objective())
            self.clear_gradients()

    def micro_batch(self, last: bool) -> AbstractContextManager[Any]:
        return self._synchronised(last)

    @contextmanager
    def _synchronised(self, last: bool) -> Iterator[None]:
        self.model.set_is_last_backward(last)
        self.model.set_requires_gradient_sync(last)
        yield

    def backward(self, objective: Tensor) -> None:
        self._updater.backward(objective)

    def step(self, rate: float) -> Tensor:
        return _joined(self._updater.step(rate))

    def clear_gradients(self) -> None:
        self._updater.forget()

    def _whole(self, name: str) -> Tensor:
        return _joined(self._named[name])

    def _whole_state(self, name: str) -> dict[str, Tensor]:
        return {key: _joined(value) for key, value in self._state.get(self._named[name], {}).items()}

    def _put(self, name: str, whole: Tensor) -> None:
        self._named[name].data.copy_(_cut(whole, self._named[name]))

    def _put_state(self, name: str, whole: Mapping[str, Tensor]) -> None:
        parameter = self._named[name]
        for key, value in whole.items():
            # The step count is one number, which stands beside each shard.
            part = _cut(value, parameter) if value.shape == parameter.shape else value.to(self._device)
            self._state[parameter][key] = part


def shard(model: Any, precision: str, spec: Fsdp, device: torch.device, ranks: Ranks) -> None:
    """Shards each of the model's layers, then what is left, as they arrive on the device."""
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    # Float32 is what is kept, and what gradients are summed in.
    computes_in = torch.bfloat16 if precision == "BFloat16" else None
    policy = MixedPrecisionPolicy(param_dtype=computes_in, reduce_dtype=torch.float32)
    for part in arriving(model, device, ranks):
        fully_shard(part, mesh=mesh, mp_policy=policy, reshard_after_forward=spec.reshard_after_forward)


def _joined(value: Tensor) -> Tensor:
    return value.full_tensor() if isinstance(value, DTensor) else value


def _cut(whole: Tensor, like: Any) -> Tensor:
    # Every rank has the whole tensor, so nothing is sent.
    return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
