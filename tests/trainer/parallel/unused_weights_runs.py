"""Steps of two ranks over a model that does not use all of its weights."""

from typing import Any

import torch
from torch import Tensor, nn

from finetune_api.training import Training
from finetune_trainer.parallel.replicated import Replicated
from finetune_trainer.ranks import Ranks

BATCHES = [[1.0, -1.0], [1.0, 2.0], [-1.0, -2.0], [0.5, 1.5]]
"""One number a rank and step; its sign chooses the expert."""


class Routed(nn.Module):
    """Vision models have mask tokens that only their pre-training uses; experts may get no token."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mask_token = nn.Parameter(torch.zeros(3))
        self.first = nn.Linear(1, 3)
        self.experts = nn.ModuleList(nn.Linear(3, 1) for _ in range(2))

    def forward(self, number: Tensor) -> Tensor:
        hidden = torch.tanh(self.first(number))
        out: Tensor = self.experts[int(number.sum() > 0)](hidden)
        return out.square().sum()


def steps(ranks: Ranks) -> dict[str, Tensor]:
    """The weights after a step a batch; the first pass reaches one expert on both ranks."""
    model = Routed()
    strategy = Replicated(model, Training(weight_decay=0.0), ranks.world_size, torch.device("cpu"))
    strategy.warm_up(lambda: strategy.model(torch.ones(1)) * 0.0)
    for numbers in BATCHES:
        own = numbers[ranks.rank :: ranks.world_size]
        for place, number in enumerate(own, 1):
            with strategy.micro_batch(place == len(own)):
                strategy.backward(strategy.model(torch.tensor([number])) * (ranks.world_size / len(numbers)))
        strategy.step(1e-2)
        strategy.clear_gradients()
    return {name: weight.clone() for name, weight in strategy.weights().items()}


def tensors(ranks: Ranks) -> Any:
    """The same as plain lists, which travel between processes."""
    return {name: weight.tolist() for name, weight in steps(ranks).items()}
