"""How much better a completion, or a token of it, is than was to be expected."""

import torch
from torch import Tensor

SMALLEST_SPREAD = 1e-4
"""Added to the spread of a group, as in TRL: equal rewards give no advantage rather than a division by nothing."""


def grpo_advantages(rewards: Tensor) -> Tensor:
    """Of (prompts, completions): the distance to the group's mean in standard deviations (Shao et al. 2024, §4.1.2)."""
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    return centred / (rewards.std(dim=1, keepdim=True) + SMALLEST_SPREAD)


def rloo_advantages(rewards: Tensor) -> Tensor:
    """Of (prompts, completions): the distance to the mean of the others (Ahmadian et al. 2024, §3)."""
    others = (rewards.sum(dim=1, keepdim=True) - rewards) / (rewards.shape[1] - 1)
    return rewards - others


def generalized_advantages(rewards: Tensor, values: Tensor, gamma: float, gae_lambda: float) -> Tensor:
    """Of the tokens of one completion, (tokens,), after which nothing comes (Schulman et al. 2016, eq. 16).

    `values` are what was expected before each token was written.
    """
    earned, expected = rewards.tolist(), [*values.tolist(), 0.0]
    advantages, later = [0.0] * len(earned), 0.0
    for place in reversed(range(len(earned))):
        surprise = earned[place] + gamma * expected[place + 1] - expected[place]
        advantages[place] = later = surprise + gamma * gae_lambda * later
    return torch.tensor(advantages, dtype=torch.float64)
