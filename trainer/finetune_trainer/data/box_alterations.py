"""Boxes that move with the image that they are on."""

from collections.abc import Callable

import numpy as np
from PIL import Image

from finetune_api.augmentation import ImageAugmentation
from finetune_trainer.data.image_alterations import crop, crop_window, drawn, flip, mirror, rotate, rotation_angle

Boxes = np.ndarray
"""Left, top, right and bottom in pixels, (boxes, 4)."""
Size = tuple[int, int]
"""Width and height."""
STAYS = 0.3
"""Least share of a box that must still be on the image; what is nearly gone cannot be recognised."""


def altered_objects(
    image: Image.Image, boxes: Boxes, settings: ImageAugmentation, draws: np.random.Generator
) -> tuple[Image.Image, Boxes, np.ndarray]:
    """The image and its boxes, altered alike, and which boxes are still on it, (boxes,)."""
    for alter, amount in drawn(settings, draws):
        if move := MOVES.get(alter):
            boxes = move(boxes, image.size, settings, amount)
        image = alter(image, settings, amount)
    within = np.clip(boxes, 0, np.asarray([*image.size, *image.size], dtype=np.float32))
    return image, within, _areas(within) >= STAYS * _areas(boxes)


def _areas(boxes: Boxes) -> np.ndarray:
    sides: np.ndarray = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return sides[:, 0] * sides[:, 1]


def _mirrored(boxes: Boxes, size: Size, settings: ImageAugmentation, amount: np.ndarray) -> Boxes:
    if not settings.horizontal_flip:
        return boxes
    return np.stack([size[0] - boxes[:, 2], boxes[:, 1], size[0] - boxes[:, 0], boxes[:, 3]], axis=1)


def _flipped(boxes: Boxes, size: Size, settings: ImageAugmentation, amount: np.ndarray) -> Boxes:
    if not settings.vertical_flip:
        return boxes
    return np.stack([boxes[:, 0], size[1] - boxes[:, 3], boxes[:, 2], size[1] - boxes[:, 1]], axis=1)


def _rotated(boxes: Boxes, size: Size, settings: ImageAugmentation, amount: np.ndarray) -> Boxes:
    """The boxes around the turned boxes, which are somewhat larger than the objects."""
    if not settings.rotation:
        return boxes
    angle = np.radians(rotation_angle(settings, amount))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])  # y points down
    centre = np.asarray(size) / 2
    corners = np.stack([boxes[:, [x, y]] for x in (0, 2) for y in (1, 3)], axis=1)
    turned = (corners - centre) @ turn.T + centre
    return np.concatenate([turned.min(axis=1), turned.max(axis=1)], axis=1).astype(np.float32)


def _cropped(boxes: Boxes, size: Size, settings: ImageAugmentation, amount: np.ndarray) -> Boxes:
    if not settings.crop:
        return boxes
    left, top, _, _ = crop_window(size, settings, amount)
    return boxes - np.asarray([left, top, left, top], dtype=np.float32)


Move = Callable[[Boxes, Size, ImageAugmentation, np.ndarray], Boxes]
MOVES: dict[Callable[..., Image.Image], Move] = {mirror: _mirrored, flip: _flipped, rotate: _rotated, crop: _cropped}
"""What each change does to boxes on an image of a size; the other changes leave them where they are."""
