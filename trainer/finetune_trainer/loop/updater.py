"""From the gradients of a global batch to new weights."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from finetune_api.training import Training
from finetune_trainer.loop.optimizer import (
    build_optimizer,
    is_matrix,
    optimizer_tensors,
    restore_optimizer,
    trained_parameters,
)


class Updater:
    """Loss scaling, L1, clipping and the optimizer: what happens between the backward pass and the next step."""

    def __init__(self, model: nn.Module, training: Training, device: torch.device) -> None:
        self.named = trained_parameters(model)
        self._training = training
        self.optimizer = build_optimizer(model, self.named, training)
        self._matrices = [p for p in self.named.values() if is_matrix(p)]
        # Float16 has few small numbers: gradients are computed of a multiple of the loss (arXiv:1710.03740).
        self._scaler = torch.amp.GradScaler(device.type, enabled=training.precision == "Float16")

    def backward(self, objective: Tensor) -> None:
        """Adds to the gradients."""
        self._scaler.scale(objective).backward()

    def step(self, learning_rate: float) -> Tensor:
        """Changes the weights, unless gradients overflowed in Float16; returns the norm of the gradients."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group["scale"]
        self._scaler.unscale_(self.optimizer)
        self._add_l1()
        norm = self._clip()
        self._scaler.step(self.optimizer)
        self._scaler.update()
        return norm

    def forget(self) -> None:
        """Frees the gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    def _add_l1(self) -> None:
        if not self._training.l1:
            return
        weights, gradients = [], []
        for parameter in self._matrices:
            if parameter.grad is not None:
                weights.append(parameter.detach())
                gradients.append(parameter.grad)
        torch._foreach_add_(gradients, torch._foreach_sign(weights), alpha=self._training.l1)

    def _clip(self) -> Tensor:
        norm = nn.utils.get_total_norm([p.grad for p in self.named.values() if p.grad is not None])
        if self._training.max_grad_norm > 0:
            nn.utils.clip_grads_with_norm_(self.named.values(), self._training.max_grad_norm, norm)
        return norm

    def state(self) -> dict[str, Tensor]:
        """The optimizer's state, by parameter."""
        return optimizer_tensors(self.optimizer, self.named)

    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """Goes on from the optimizer's state in a checkpoint."""
        restore_optimizer(self.optimizer, self.named, saved)

    def loss_scaling(self) -> dict[str, Any]:
        """JSON; empty outside Float16. Waits for the device."""
        return self._scaler.state_dict()

    def load_loss_scaling(self, saved: dict[str, Any]) -> None:
        """Takes back what `loss_scaling` gave."""
        if saved:
            self._scaler.load_state_dict(saved)
