"""The trained model in one piece again."""

from collections.abc import Callable

import torch

from finetune_trainer.loop.optimizer import trained_parameters
from finetune_trainer.methods.adaptation import Adaptation
from finetune_trainer.parallel.strategy import Strategy, load_parameters


def whole_model(strategy: Strategy, trained: Adaptation, make: Callable[[], Adaptation], rank: int) -> Adaptation:
    """The trained model, whole, on rank 0; every rank calls it.

    A sharded one is made anew on the host, as it was made before, and gets the trained weights and what the
    method keeps: the frozen weights are those of the base, but for what the method has moved.
    """
    if not strategy.sharded:
        return trained
    weights = strategy.consolidated()
    if rank:
        return trained
    made = make()
    load_parameters(trained_parameters(made.model), weights)
    made.restore(trained.state())
    buffers = dict(made.model.named_buffers())
    with torch.no_grad():
        for name, buffer in trained.model.named_buffers():
            buffers[name].copy_(buffer)
    return made
