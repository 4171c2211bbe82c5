"""One forward pass and its loss."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from finetune_trainer.data.batches import Batch
from finetune_trainer.tasks.task import Task


def precision_context(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Autocast to bfloat16 over float32 weights, or nothing."""
    if precision == "BFloat16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def loss_sum(task: Task, model: Any, batch: Batch, label_smoothing: float = 0.0) -> Tensor:
    """Loss summed over the batch's targets; who calls divides by all targets of the step."""
    loss = task.loss_sum(model, batch, label_smoothing)
    return loss * 0.0 if batch.idle else loss
