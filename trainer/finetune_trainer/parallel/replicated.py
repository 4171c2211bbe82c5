"""A whole copy of the model in every process, by DistributedDataParallel; or the only copy there is."""

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from finetune_api.training import Training
from finetune_trainer.loop.process_group import sum_over_ranks
from finetune_trainer.loop.updater import Updater
from finetune_trainer.parallel.strategy import load_parameters

log = logging.getLogger(__name__)


class Replicated:
    """Implements `Strategy`."""

    sharded = False

    def __init__(self, model: nn.Module, training: Training, world_size: int, device: torch.device) -> None:
        self._updater = Updater(model, training, device)
        self._named = self._updater.named
        self.module = model
        self.model = model if world_size == 1 else _in_parallel(model, device)
        self._device = device

    def warm_up(self, objective: Callable[[], Tensor]) -> None:
        """Finds out which weights get no gradient, of which DDP must know; and DDP settles the order in which it sums
        gradients after its first backward pass."""
        if isinstance(self.model, DistributedDataParallel):
            with self.model.no_sync():
                self.backward(objective())
            unused = [name for name, parameter in self._named.items() if parameter.grad is None]
            self.clear_gradients()
            # Another batch, or another rank's, may reach them: such as an expert that no token was sent to.
            if sum_over_ranks(torch.tensor(len(unused), device=self._device)):
                log.info("%d weights had no gradient in the first pass: %s", len(unused), ", ".join(unused[:3]))
                self.model = self.module  # the buckets of one before those of the next
                self.model = _in_parallel(self.module, self._device, find_unused=True)
        elif self._device.type != "cuda":
            return
        self.backward(objective())
        self.clear_gradients()

    def micro_batch(self, last: bool) -> AbstractContextManager[Any]:
        if not last and isinstance(self.model, DistributedDataParallel):
            return self.model.no_sync()
        return nullcontext()

    def backward(self, objective: Tensor) -> None:
        self._updater.backward(objective)

    def step(self, rate: float) -> Tensor:
        return self._updater.step(rate)

    def clear_gradients(self) -> None:
        self._updater.forget()

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(parameter.shape) for name, parameter in self._named.items()}

    def weights(self) -> dict[str, Tensor]:
        return {name: parameter.detach() for name, parameter in self._named.items()}

    def consolidated(self) -> dict[str, Tensor]:
        return self.weights()

    def optimizer_state(self) -> dict[str, Tensor]:
        return self._updater.state()

    def loss_scaling(self) -> dict[str, Any]:
        return self._updater.loss_scaling()

    def load_loss_scaling(self, saved: dict[str, Any]) -> None:
        self._updater.load_loss_scaling(saved)

    def share(self, saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in saved.items()}

    def load_share(self, share: Mapping[str, Tensor]) -> None:
        load_parameters(self._named, share)

    def load_weights(self, saved: Mapping[str, Tensor]) -> None:
        load_parameters(self._named, saved)

    def load_optimizer_state(self, saved: Mapping[str, Tensor]) -> None:
        self._updater.restore(saved)


def _in_parallel(model: nn.Module, device: torch.device, find_unused: bool = False) -> DistributedDataParallel:
    return DistributedDataParallel(
        model,
        device_ids=[device.index] if device.type == "cuda" else None,
        forward_sync_buffers=False,
        gradient_as_bucket_view=True,
        find_unused_parameters=find_unused,
    )
