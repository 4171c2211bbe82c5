"""How much better each completion is than others of its prompt."""

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
