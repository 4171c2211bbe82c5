"""The set loss of DETR (Carion et al. 2020, arXiv:2005.12872, section 3.1) as a sum over images.

transformers' own is a mean over a batch by the very objects in it, so that a result would depend on how a step is cut
up over micro-batches and ranks. Here the classes of an image count as its mean, and its boxes by the mean number of
objects of an image in the data.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from finetune_serving.detections import corners


@dataclass(frozen=True)
class Weights:
    """Of the parts of the loss, and of the costs by which predictions are matched with objects."""

    nothing: float
    """Of the class that means that there is nothing."""
    boxes: float
    overlap: float
    class_cost: float
    box_cost: float
    overlap_cost: float

    @classmethod
    def of(cls, config: Any) -> "Weights":
        """Those that the model was pre-trained with."""
        return cls(
            config.eos_coefficient,
            config.bbox_loss_coefficient,
            config.giou_loss_coefficient,
            config.class_cost,
            config.bbox_cost,
            config.giou_cost,
        )


@dataclass(frozen=True)
class Objects:
    """Those of a batch, one after the other."""

    images: Tensor
    """The image in the batch that each is on, in rising order, (objects,)."""
    classes: Tensor
    boxes: Tensor
    """Centre, width and height as parts of what the model sees, (objects, 4)."""
    an_image: Tensor
    """How many an image has in the mean over the data, at least 1."""


def set_loss_sum(logits: Tensor, boxes: Tensor, objects: Objects, weights: Weights, label_smoothing: float) -> Tensor:
    """Summed over images; `logits` are (images, queries, classes + 1), `boxes` (images, queries, 4)."""
    logits, boxes = logits.float(), boxes.float()
    images, queries, chosen = matched(logits, boxes, objects, weights)
    nothing = logits.shape[-1] - 1
    targets = torch.full(logits.shape[:2], nothing, device=logits.device)
    targets[images, queries] = objects.classes[chosen]
    weight = torch.ones(nothing + 1, device=logits.device)
    weight[nothing] = weights.nothing
    of_classes = functional.cross_entropy(
        logits.transpose(1, 2), targets, weight, reduction="none", label_smoothing=label_smoothing
    )
    classes = (of_classes.sum(dim=1) / weight[targets].sum(dim=1)).sum()
    found, wanted = boxes[images, queries], objects.boxes[chosen]
    distance = (found - wanted).abs().sum()
    overlap = (1 - generalized_overlap(corners(found), corners(wanted))).sum()
    return classes + (weights.boxes * distance + weights.overlap * overlap) / objects.an_image


@torch.no_grad()
def matched(logits: Tensor, boxes: Tensor, objects: Objects, weights: Weights) -> tuple[Tensor, Tensor, Tensor]:
    """The pairs with the least cost: image, query and object of each. Waits for the device."""
    # SciPy takes a part of a second of every start, and most tasks never get here.
    from scipy.optimize import linear_sum_assignment

    counts = torch.bincount(objects.images, minlength=len(logits))
    most = int(counts.max()) if len(objects.images) else 0
    places = torch.arange(len(objects.images), device=logits.device) - (counts.cumsum(0) - counts)[objects.images]
    wanted = torch.zeros(len(logits), most, 4, device=logits.device)
    wanted[objects.images, places] = objects.boxes
    classes = torch.zeros(len(logits), most, dtype=torch.int64, device=logits.device)
    classes[objects.images, places] = objects.classes

    likely = logits.softmax(-1).gather(2, classes[:, None].expand(-1, logits.shape[1], -1))
    distance = (boxes[:, :, None] - wanted[:, None]).abs().sum(-1)
    overlap = generalized_overlap(corners(boxes)[:, :, None], corners(wanted)[:, None])
    cost = weights.box_cost * distance - weights.class_cost * likely - weights.overlap_cost * overlap
    # A model that gives no numbers is found out by the loss, and must get so far.
    costs = torch.nan_to_num(cost, nan=1e9, posinf=1e9, neginf=-1e9).cpu().numpy()

    pairs: list[np.ndarray] = []
    first = 0
    for image, count in enumerate(counts.tolist()):
        queries, chosen = linear_sum_assignment(costs[image, :, :count])
        pairs.append(np.stack([np.full(len(queries), image), queries, first + chosen]))
        first += count
    together = torch.from_numpy(np.concatenate(pairs, axis=1)).to(logits.device)
    return together[0], together[1], together[2]


def generalized_overlap(one: Tensor, other: Tensor) -> Tensor:
    """GIoU (Rezatofighi et al. 2019, arXiv:1902.09630) of boxes given by corners, (…, 4), element by element."""
    area_of_one, area_of_other = (_area(box[..., :2], box[..., 2:]) for box in (one, other))
    common = _area(torch.maximum(one[..., :2], other[..., :2]), torch.minimum(one[..., 2:], other[..., 2:]))
    around = _area(torch.minimum(one[..., :2], other[..., :2]), torch.maximum(one[..., 2:], other[..., 2:]))
    together = area_of_one + area_of_other - common
    least = torch.finfo(together.dtype).tiny  # boxes without area, such as where there is padding
    return common / together.clamp(min=least) - (around - together) / around.clamp(min=least)


def _area(first: Tensor, last: Tensor) -> Tensor:
    sides = (last - first).clamp(min=0)
    return sides[..., 0] * sides[..., 1]
