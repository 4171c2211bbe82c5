"""Batch normalisation in fine-tuning: with the statistics of pre-training."""

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def keep_batch_statistics(model: Any) -> Any:
    """Batch normalisation layers stay in evaluation mode; their scale and shift are trained as ever.

    Otherwise the result would depend on how a batch is cut up over micro-batches and ranks, each rank would have
    statistics of its own, and a checkpoint, which holds weights only, would not hold them.
    """
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
            module.train = _stays(module)  # type: ignore[method-assign]
    return model


def _stays(module: nn.Module) -> Any:
    return lambda mode=True: module
