"""How much the parts of a model matter, by what the loss and the layers make of them on training examples."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass
class Importance:
    """Sums over the examples seen so far."""

    of_inputs: dict[str, Tensor] = field(default_factory=dict)
    """For each watched linear layer: how much the loss would change without each group of its inputs."""
    of_layers: dict[str, float] = field(default_factory=dict)
    """For each layer: how far it turns its input, 1 - cosine."""


def measured(
    linears: Mapping[str, tuple[nn.Linear, int]],
    layers: Mapping[str, nn.Module],
    losses: Iterable[Callable[[], Tensor]],
) -> Importance:
    """Of the inputs of each linear layer, in groups of the given number, and of whole layers.

    Each input is multiplied with a gate of 1. The derivative of an example's loss by the gates of a group, summed, is
    to first order what the loss loses with the group (Michel et al. 2019, arXiv:1905.10650, equation 2, for heads;
    Molchanov et al. 2019, arXiv:1906.10771, for neurons). Layers: block influence, Men et al. 2024, arXiv:2403.03853.
    `losses` are those of one example each.
    """
    found = Importance()
    gates = {name: torch.ones(linear.in_features, device=linear.weight.device) for name, (linear, _) in linears.items()}
    for gate in gates.values():
        gate.requires_grad_()
    with _watched(linears, gates, layers, found):
        for loss in losses:
            with torch.set_grad_enabled(bool(gates)):
                changes = loss()
            gradients = torch.autograd.grad(changes, list(gates.values())) if gates else ()
            for (name, (_, groups)), gradient in zip(linears.items(), gradients, strict=True):
                change = gradient.view(groups, -1).sum(dim=1).abs()
                found.of_inputs[name] = found.of_inputs.get(name, torch.zeros_like(change)) + change
    return found


@contextmanager
def _watched(
    linears: Mapping[str, tuple[nn.Linear, int]],
    gates: dict[str, Tensor],
    layers: Mapping[str, nn.Module],
    found: Importance,
) -> Iterator[None]:
    def gated(name: str, _: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0] * gates[name], *inputs[1:])

    def turned(name: str, _: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        after = output[0] if isinstance(output, tuple) else output
        angle = 1 - functional.cosine_similarity(inputs[0].detach(), after.detach(), dim=-1).mean()
        found.of_layers[name] = found.of_layers.get(name, 0.0) + float(angle)

    hooks = [linear.register_forward_pre_hook(partial(gated, name)) for name, (linear, _) in linears.items()]
    hooks += [layer.register_forward_hook(partial(turned, name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
