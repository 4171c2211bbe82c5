"""GPTQ: weights rounded one column after another, each making up for the rounding of those before it.

Frantar et al. 2022, arXiv:2210.17323, algorithm 1. Own code, as no library that calibrates can be used beside these
versions on processors: llm-compressor wants older transformers, the kernels of GPTQModel and torchao's GPTQ want CUDA.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

DAMPING = 0.01
"""Of the mean diagonal, added to it: the paper's, so that the inverse exists."""

Scale = Callable[[Tensor], Tensor]
"""The scales of groups of weights, (rows, group), as (rows, 1)."""
Round = Callable[[Tensor, Tensor], Tensor]
"""Weights and their scales to the nearest values that can be held."""


def rounded(weight: Tensor, seen: Tensor, group: int, scale: Scale, nearest: Round) -> tuple[Tensor, Tensor]:
    """The weight (rows, columns) in values that 4 bits hold, and the scales (rows, columns / group).

    `seen` is the sum of the outer products of the layer's inputs, (columns, columns).
    """
    weight, inverse = weight.clone(), _inverse_root(seen)
    scales = []
    for start in range(0, weight.shape[1], group):
        end = start + group
        block = weight[:, start:end]
        scales.append(scale(block))
        errors = torch.zeros_like(block)
        for column in range(group):
            place = start + column
            value = nearest(block[:, column, None], scales[-1])[:, 0]
            errors[:, column] = (block[:, column] - value) / inverse[place, place]
            block[:, column:] -= errors[:, column, None] * inverse[place, place:end]
            block[:, column] = value
        weight[:, end:] -= errors @ inverse[start:end, end:]
    return weight, torch.cat(scales, dim=1)


def _inverse_root(seen: Tensor) -> Tensor:
    """Upper Cholesky factor of the inverse. Inputs that were always zero stand for themselves."""
    hessian = seen.clone()
    places = hessian.diagonal()
    places[places == 0] = 1.0
    places += DAMPING * places.mean()
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    return torch.linalg.cholesky(inverse, upper=True)


def by_block(layers: dict[str, nn.Linear]) -> list[dict[str, nn.Linear]]:
    """Layers of the same numbered block together, in the model's order; the others one by one."""
    blocks: dict[str, dict[str, nn.Linear]] = {}
    for name, layer in layers.items():
        numbered = re.match(r".*?\.\d+\.", name)
        blocks.setdefault(numbered[0] if numbered else name, {})[name] = layer
    return list(blocks.values())


def inputs_seen(layers: dict[str, nn.Linear], passes: Iterable[Callable[[], Any]]) -> dict[str, Tensor]:
    """The sum of the outer products of each layer's inputs, over all forward passes."""
    seen = {
        name: torch.zeros(layer.in_features, layer.in_features, device=layer.weight.device)
        for name, layer in layers.items()
    }
    with torch.no_grad(), _watched(layers, seen):
        for run in passes:
            run()
    return seen


@contextmanager
def _watched(layers: dict[str, nn.Linear], seen: dict[str, Tensor]) -> Iterator[None]:
    def add(name: str, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        rows = inputs[0].detach().float().flatten(end_dim=-2)
        seen[name].addmm_(rows.T, rows)

    hooks = [layer.register_forward_pre_hook(partial(add, name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
