"""Altered images: what each setting does, and that equal draws give equal images."""

from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from pydantic import ValidationError

from finetune_api.augmentation import ImageAugmentation
from finetune_trainer.data.draws import generator_of
from finetune_trainer.data.image_alterations import altered_image

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))


def altered(epoch: int = 0, **settings: Any) -> Image.Image:
    wanted = ImageAugmentation.model_validate({"probability": 1, **settings})
    return altered_image(PICTURE, wanted, generator_of(0, epoch, 0))


def test_flips_are_exact() -> None:
    assert altered(horizontalFlip=True) == ImageOps.mirror(PICTURE)
    assert altered(verticalFlip=True) == ImageOps.flip(PICTURE)
    assert altered(horizontalFlip=True, verticalFlip=True) == PICTURE.rotate(180)


def test_a_crop_cuts_off_no_more_than_its_share_and_keeps_the_proportions() -> None:
    for epoch in range(20):
        cut = altered(epoch, crop=0.4)
        assert 0.57 < cut.width * cut.height / (60 * 40) <= 1
        assert cut.width / cut.height == pytest.approx(1.5, abs=0.05)
    assert len({altered(epoch, crop=0.4).size for epoch in range(20)}) > 5


def test_a_rotation_keeps_the_size() -> None:
    turned = altered(rotation=30)
    assert turned.size == PICTURE.size
    assert turned != PICTURE


@pytest.mark.parametrize("setting", ["brightness", "contrast", "saturation", "hue"])
def test_colours_change_no_more_than_asked_for(setting: str) -> None:
    slight, strong = (np.asarray(altered(**{setting: by}), dtype=int) for by in (0.02, 0.5))
    original = np.asarray(PICTURE, dtype=int)
    assert 0 < np.abs(slight - original).mean() < np.abs(strong - original).mean()


def test_a_hue_of_half_a_circle_keeps_the_brightest_channel() -> None:
    turned = np.asarray(altered(hue=0.5), dtype=int).max(axis=2)
    assert np.abs(turned - np.asarray(PICTURE, dtype=int).max(axis=2)).max() <= 1


def test_probability_says_how_often() -> None:
    flipped = [altered(epoch, probability=0.3, horizontalFlip=True) != PICTURE for epoch in range(200)]
    assert 40 <= sum(flipped) <= 80


def test_equal_draws_give_equal_images_and_others_do_not() -> None:
    everything = {"horizontalFlip": True, "rotation": 20, "crop": 0.3, "brightness": 0.4, "hue": 0.2}
    assert altered(3, **everything) == altered(3, **everything)
    assert len({altered(epoch, **everything).tobytes() for epoch in range(10)}) == 10


@pytest.mark.parametrize("settings", [{}, {"probability": 1}])
def test_settings_that_change_nothing_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="nothing would change: set one of horizontalFlip"):
        ImageAugmentation.model_validate(settings)
