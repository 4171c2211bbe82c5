"""The loss of a student (Hinton et al. 2015, arXiv:1503.02531)."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from finetune_api.distillation import Distillation

EVEN = 0.5
"""Default share of the teacher in a mixture."""


def with_teacher(loss: Tensor, logits: Tensor, teacher: Tensor, distillation: Distillation) -> Tensor:
    """The loss of the labels, mixed with the distance from the teacher; both are sums over the batch.

    Args:
        logits: (predictions, classes).
        teacher: The same of the teacher, or its log-probabilities. Either may have more classes, which are padding.
    """
    classes, temperature = min(logits.shape[-1], teacher.shape[-1]), distillation.temperature
    own = functional.log_softmax(logits[:, :classes] / temperature, dim=-1)
    wanted = functional.log_softmax(teacher[:, :classes].float() / temperature, dim=-1)
    # The square of the temperature makes up for the smaller gradients of softer answers.
    distance = temperature**2 * divergence(own, wanted, distillation)
    return (1 - distillation.weight) * loss + distillation.weight * distance


def divergence(own: Tensor, teacher: Tensor, distillation: Distillation) -> Tensor:
    """Of log-probabilities, (predictions, classes) each; summed, in nats."""
    if distillation.divergence == "ForwardKL":
        return _from(teacher, own)
    if distillation.divergence == "ReverseKL":
        return _from(own, teacher)
    share = distillation.teacher_share or EVEN
    mixture = torch.logaddexp(teacher + math.log(share), own + math.log(1 - share))
    return share * _from(teacher, mixture) + (1 - share) * _from(own, mixture)


def _from(truth: Tensor, guess: Tensor) -> Tensor:
    return functional.kl_div(guess, truth, reduction="sum", log_target=True)
