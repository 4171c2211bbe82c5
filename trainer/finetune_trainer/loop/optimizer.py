"""AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101), fused, and its state as named tensors."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from finetune_trainer.errors import ConfigurationError

Named = dict[str, nn.Parameter]


def trained_parameters(model: nn.Module) -> Named:
    """What the optimizer changes, by name.

    Raises:
        ConfigurationError: Nothing is trained.
    """
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not named:
        raise ConfigurationError("method: no weight of the model is trained")
    return named


def build_optimizer(named: Named, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """Biases and normalisation weights, which have one dimension, are not decayed."""
    groups = [
        {"params": [p for p in named.values() if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in named.values() if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=learning_rate, fused=True)


def optimizer_tensors(optimizer: torch.optim.Optimizer, named: Named) -> dict[str, Tensor]:
    """`PARAMETER/exp_avg` and so on; empty before the first step."""
    return {
        f"{name}/{key}": value
        for name, parameter in named.items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, named: Named, saved: Mapping[str, Tensor]) -> None:
    """Puts saved tensors in place of the optimizer's state; each parameter must have its own.

    Raises:
        ValueError: The saved state is of other parameters.
    """
    strangers = {key.rsplit("/", 1)[0] for key in saved} ^ set(named)
    if saved and strangers:
        raise ValueError(f"the optimizer state does not fit the model: {sorted(strangers)[:3]}")
    for key, value in saved.items():
        name, part = key.rsplit("/", 1)
        # The step count of a fused optimizer lives beside its parameter, in float32.
        optimizer.state[named[name]][part] = value.to(named[name].device)
