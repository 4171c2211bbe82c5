"""Boxes move with what they are around."""

from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from finetune_api.augmentation import ImageAugmentation
from finetune_trainer.data.box_alterations import altered_objects
from finetune_trainer.data.draws import generator_of
from finetune_trainer.data.image_alterations import altered_image

BOX = np.array([[20, 10, 50, 30]], dtype=np.float32)


def picture() -> Image.Image:
    image = Image.new("RGB", (100, 60))
    ImageDraw.Draw(image).rectangle((20, 10, 49, 29), fill=(255, 255, 255))
    return image


def altered(epoch: int, **settings: Any) -> tuple[Image.Image, np.ndarray, np.ndarray]:
    wanted = ImageAugmentation.model_validate({"probability": 1, **settings})
    return altered_objects(picture(), BOX, wanted, generator_of(0, epoch, 0))


def seen(image: Image.Image) -> list[int]:
    """Corners of what is bright."""
    bright = np.asarray(image)[:, :, 0] > 127
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


@pytest.mark.parametrize(
    "settings",
    [
        {"horizontalFlip": True},
        {"verticalFlip": True},
        {"rotation": 40},
        {"crop": 0.5},
        {"horizontalFlip": True, "verticalFlip": True, "rotation": 20, "crop": 0.3, "brightness": 0.1},
    ],
    ids=lambda settings: "-".join(settings),
)
def test_a_box_stays_around_its_object(settings: dict[str, Any]) -> None:
    exact = "rotation" not in settings
    compared = 0
    for epoch in range(12):
        image, boxes, stays = altered(epoch, **settings)
        if not stays[0]:
            continue
        compared += 1
        outside = np.maximum(np.abs(boxes[0] - seen(image)) - 1.5, 0)
        assert not outside.any() or not exact, (boxes[0], seen(image))
        # The box around a turned box is larger than the object, never smaller.
        assert (boxes[0][:2] <= np.asarray(seen(image)[:2]) + 1.5).all()
        assert (boxes[0][2:] >= np.asarray(seen(image)[2:]) - 1.5).all()
        assert (boxes[0] >= 0).all()
        assert (boxes[0] <= [*image.size, *image.size]).all()
    assert compared > 6


def test_a_box_that_is_nearly_cut_away_is_left_out() -> None:
    outcomes = [altered(epoch, crop=0.9) for epoch in range(40)]
    assert {bool(stays[0]) for _, _, stays in outcomes} == {True, False}
    for _, boxes, stays in outcomes:
        area = np.prod(np.maximum(boxes[0][2:] - boxes[0][:2], 0))
        assert (area >= 0.3 * 30 * 20) == stays[0]


def test_the_image_is_altered_as_any_other() -> None:
    everything = {"horizontalFlip": True, "rotation": 20, "crop": 0.3, "hue": 0.2}
    wanted = ImageAugmentation.model_validate({"probability": 0.5, **everything})
    for epoch in range(5):
        image, _, _ = altered(epoch, **everything, probability=0.5)
        assert image == altered_image(picture(), wanted, generator_of(0, epoch, 0))
