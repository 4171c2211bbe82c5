"""The loss of a student (Hinton et al. 2015, arXiv:1503.02531)."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from finetune_api.distillation import Distillation
from finetune_trainer.data.batches import SOFT_LABELS, Batch, Collate
from finetune_trainer.data.encoded import Encoded

TEMPERATURE = "distillation_temperature"
WEIGHT = "distillation_weight"


def taught(collate: Collate, distillation: Distillation | None) -> Collate:
    """Batches that carry to the loss how much the teacher counts."""
    if distillation is None:
        return collate
    settings = {
        TEMPERATURE: torch.tensor(distillation.temperature),
        WEIGHT: torch.tensor(distillation.weight),
    }

    def collated(encoded: Encoded, rows: list[list[int]]) -> Batch:
        batch = collate(encoded, rows)
        return replace(batch, extras={**batch.extras, **settings})

    return collated


def with_teacher(loss: Tensor, logits: Tensor, extras: Mapping[str, Tensor]) -> Tensor:
    """The loss of the labels, mixed with the distance from the teacher where the batch has its answers.

    Both are sums over the batch. The square of the temperature makes up for the smaller gradients of softer answers.
    """
    if WEIGHT not in extras:
        return loss
    temperature, weight = extras[TEMPERATURE], extras[WEIGHT]
    own = functional.log_softmax(logits / temperature, dim=-1)
    teacher = functional.log_softmax(extras[SOFT_LABELS] / temperature, dim=-1)
    distance = functional.kl_div(own, teacher, reduction="sum", log_target=True)
    return (1 - weight) * loss + weight * temperature**2 * distance
