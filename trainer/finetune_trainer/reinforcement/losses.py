"""What is minimised, one value a token; and the names under which a batch carries what that takes."""

import torch
from torch import Tensor
from torch.nn import functional

from finetune_trainer.data.batches import Batch

ADVANTAGES, WEIGHTS, REFERENCE = "advantages", "weights", "reference"
"""Extras of a batch to learn from, one value a token,"""
WRITTEN = "written"
"""the log-probability at which the token was written, where it is learnt from more than once,"""
EXPECTED, RETURNS = "expected", "returns"
"""and what the value head expected and should have."""


def policy_losses(log_probabilities: Tensor, batch: Batch, beta: float, clip_range: float) -> Tensor:
    """How far a token is from what was rewarded, and beta times an estimate of the divergence.

    The ratio of a token's probability to that at which it was written is clipped (Schulman et al. 2017, eq. 7). Where
    completions are learnt from once, by one step, the ratio is 1, and its gradient is that of the policy. The
    divergence is estimated as in Schulman 2020 ("k3").
    """
    advantages = batch.extras[ADVANTAGES]
    ratio = torch.exp(log_probabilities - batch.extras.get(WRITTEN, log_probabilities.detach()))
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    losses = torch.maximum(-ratio * advantages, -clipped * advantages)
    if beta:
        ahead = batch.extras[REFERENCE] - log_probabilities
        losses = losses + beta * (torch.exp(ahead) - ahead - 1)
    return losses * batch.extras[WEIGHTS]


def value_losses(values: Tensor, batch: Batch, clip_range: float) -> Tensor:
    """Half the squared error of the value head, the larger of as it is and as far as it may move (arXiv:2005.12729)."""
    expected, returns = batch.extras[EXPECTED], batch.extras[RETURNS]
    clipped = expected + (values - expected).clamp(-clip_range, clip_range)
    return 0.5 * torch.maximum((values - returns).square(), (clipped - returns).square())


def entropies(logits: Tensor) -> Tensor:
    """Of the distribution in each row, in nats."""
    likely = functional.log_softmax(logits, dim=-1)
    return -(likely.exp() * likely).sum(-1)
