"""Images as a detector's inputs and its outputs as boxes, the same in training and serving."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

MASKED = frozenset({"detr"})
"""Values of model_type whose models are told where an image ends, and give boxes as parts of the image.

Others see the padding as part of the image, and give boxes as parts of the whole.
"""


def scaled(images: Sequence[Image.Image], processor: Any) -> tuple[dict[str, Tensor], Tensor]:
    """`pixel_values` and `pixel_mask` of a batch; and which share of it each image fills, (images, 2), width first."""
    encoded = processor(list(images), return_tensors="pt")
    pixels: Tensor = encoded["pixel_values"]
    mask: Tensor = encoded.get("pixel_mask", torch.ones(pixels.shape[0], *pixels.shape[2:], dtype=torch.int64))
    height, width = mask.shape[1:]
    shares = torch.stack([mask[:, 0, :].sum(dim=1) / width, mask[:, :, 0].sum(dim=1) / height], dim=1)
    return {"pixel_values": pixels, "pixel_mask": mask}, shares


def model_inputs(scaled: dict[str, Tensor], masked: bool) -> dict[str, Tensor]:
    """What the model's forward pass takes."""
    return scaled if masked else {"pixel_values": scaled["pixel_values"]}


def corners(boxes: Tensor) -> Tensor:
    """Left, top, right and bottom of (centre x, centre y, width, height), (…, 4)."""
    centre, sides = boxes[..., :2], boxes[..., 2:]
    return torch.cat([centre - sides / 2, centre + sides / 2], dim=-1)


def centres(boxes: Tensor) -> Tensor:
    """The inverse of `corners`."""
    first, last = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(first + last) / 2, last - first], dim=-1)


def detections(logits: Tensor, boxes: Tensor, shares: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Scores (images, queries), classes (images, queries) and corners (images, queries, 4) as parts of the image.

    The last class of `logits` means that there is nothing. `shares` are those of images whose padding the model takes
    for a part of them, else None.
    """
    scores, classes = torch.softmax(logits.float(), dim=-1)[..., :-1].max(dim=-1)
    found = corners(boxes.float())
    if shares is not None:
        found = found / shares.repeat(1, 2)[:, None].to(found.device)
    return scores, classes, found.clamp(0, 1)
