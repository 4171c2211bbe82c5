"""One forward pass and its loss."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from finetune_trainer.data.batches import Batch


def precision_context(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Autocast to bfloat16 over float32 weights, or nothing."""
    if precision == "BFloat16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def selected_logits(model: Any, batch: Batch) -> Tensor:
    """Logits of the predictions that count, one a row."""
    logits: Tensor = model(**batch.inputs, **batch.options).logits
    if logits.ndim == 3:
        # Prompt tuning puts tokens of its own before the text; nothing is predicted from all but the last of them.
        logits = logits[:, -batch.inputs["input_ids"].shape[1] :]
    return logits.flatten(0, -2).index_select(0, batch.positions)


def loss_sum(model: Any, batch: Batch, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy summed over the batch's targets; who calls divides by all targets of the step.

    A mean over each micro-batch would give short rows more weight, and change with the number of ranks.
    """
    logits = selected_logits(model, batch).float()
    return functional.cross_entropy(logits, batch.targets, reduction="sum", label_smoothing=label_smoothing)
