"""The strategy that a job asks for."""

from typing import Any

import torch

from finetune_api.trainer_config import TrainerConfig
from finetune_trainer.loop.plan import StepPlan
from finetune_trainer.parallel.replicated import Replicated
from finetune_trainer.parallel.strategy import Strategy
from finetune_trainer.ranks import Ranks


def strategy_of(config: TrainerConfig, model: Any, plan: StepPlan, device: torch.device, ranks: Ranks) -> Strategy:
    """Takes over the model, on every rank, in a process group.

    Raises:
        ConfigurationError: A package that the engine needs is missing.
    """
    training, distributed = config.training, config.distributed
    if distributed.zero is not None:
        from finetune_trainer.parallel.zero import Zero, load_deepspeed

        return Zero(model, training, plan, distributed.zero, device, ranks, load_deepspeed(device))
    if distributed.fsdp is not None:
        from finetune_trainer.parallel.fsdp import FullySharded

        return FullySharded(model, training, distributed.fsdp, device, ranks)
    return Replicated(model, training, plan.world_size, device)
