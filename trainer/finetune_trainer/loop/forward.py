"""One forward pass and its loss."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from finetune_trainer.data.batches import Batch
from finetune_trainer.loop.process_group import sum_over_ranks
from finetune_trainer.models.fused_head import FusedHead
from finetune_trainer.tasks.task import StepWide, Task


def precision_context(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Autocast over float32 weights, or nothing."""
    dtype = compute_dtype(precision)
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype=dtype)


def compute_dtype(precision: str) -> torch.dtype:
    """What matrices are multiplied in."""
    return {"Float32": torch.float32, "BFloat16": torch.bfloat16, "Float16": torch.float16}[precision]


def loss_sum(
    task: Task, model: Any, batch: Batch, label_smoothing: float = 0.0, head: FusedHead | None = None
) -> Tensor:
    """Loss summed over the batch's targets; who calls divides by all targets of the step."""
    loss = head.loss_sum(model, batch) if head else task.loss_sum(model, batch, label_smoothing)
    return loss * 0.0 if batch.idle else loss


def step_sums(task: StepWide, model: Any, micro: list[Batch], precision: str, device: torch.device) -> Tensor:
    """What the task adds up over the micro-batches of a step on all ranks, every one of which calls it."""
    training = model.training
    model.eval()
    with torch.no_grad(), precision_context(precision, device):
        each = [task.step_sums(model, batch) * (not batch.idle) for batch in micro]
    model.train(training)
    return sum_over_ranks(torch.stack(each).sum(dim=0))
