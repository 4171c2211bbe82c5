"""A linear layer and the cross-entropy of its outputs, a few positions at a time.

PyTorch's `linear_cross_entropy` does the same, but sums the loss of bfloat16 inputs in bfloat16, which has 8 bits: a
loss of 10,000 would be off by 30. Here products are made in the inputs' type, and sums in float32.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

PIECE_BYTES = 2**27
"""Of the logits that are there at a time. Between 256 and 1,024 positions a CPU's speed is about the same."""
LEAST, MOST = 128, 1024
"""Positions at a time."""


def linear_cross_entropy_sum(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
    """Cross-entropy, summed over the positions, in float32; its gradients are computed on the way.

    Args:
        hidden: (positions, width).
        weight: (classes, width); multiplied in `hidden`'s type, in autocast's where there is one.
        bias: (classes,) or None.
        targets: (positions,), class indices.
    """
    kind = hidden.device.type
    if torch.is_autocast_enabled(kind):
        hidden = hidden.to(torch.get_autocast_dtype(kind))
    loss: Tensor = _LinearCrossEntropy.apply(hidden, weight, bias, targets)
    return loss


def positions_at_a_time(classes: int) -> int:
    """As many as keep the logits in `PIECE_BYTES`."""
    return max(LEAST, min(MOST, PIECE_BYTES // (4 * classes)))


class _LinearCrossEntropy(torch.autograd.Function):
    """Forward computes the gradients too: logits are never made twice. As in Liger (arXiv:2410.10989)."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            loss = hidden.new_zeros((), dtype=torch.float32)
            needed = ctx.needs_input_grad
            to_hidden = torch.empty_like(hidden) if needed[0] else None
            to_weight = torch.zeros_like(weight, dtype=torch.float32) if needed[1] else None
            to_bias = None if bias is None or not needed[2] else torch.zeros_like(bias, dtype=torch.float32)
            matrix = weight.detach().to(hidden.dtype)
            size = positions_at_a_time(len(weight))
            for start in range(0, len(hidden), size):
                piece = slice(start, start + size)
                some, aims = hidden.detach()[piece], targets[piece].unsqueeze(1)
                logits = (some @ matrix.T).float()
                if bias is not None:
                    logits += bias.detach()
                loss += _losses(logits, aims).sum()
                if any(needed):
                    errors = logits.scatter_add_(1, aims, torch.full_like(aims, -1, dtype=torch.float32))
                    _accumulate(errors, some, matrix, to_weight, to_bias)
                    if to_hidden is not None:
                        to_hidden[piece] = errors.to(hidden.dtype) @ matrix
        ctx.gradients = to_hidden, to_weight, to_bias
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        own, ctx.gradients = ctx.gradients, None  # used up: they are scaled in place
        return *(None if one is None else one.mul_(gradient) for one in own), None


def _losses(logits: Tensor, aims: Tensor) -> Tensor:
    """Cross-entropy of each row; turns the logits into probabilities in place."""
    logits.sub_(logits.amax(1, keepdim=True))
    chosen = logits.gather(1, aims)
    total = logits.exp_().sum(1, keepdim=True)
    logits.div_(total)
    return total.log() - chosen


def _accumulate(errors: Tensor, some: Tensor, matrix: Tensor, to_weight: Tensor | None, to_bias: Tensor | None) -> None:
    if to_weight is not None:
        if some.dtype == torch.float32:
            to_weight.addmm_(errors.T, some)
        else:
            to_weight += errors.to(some.dtype).T @ some
    if to_bias is not None:
        to_bias += errors.sum(0)
