"""Training images, altered anew each time that they come. By Pillow, as all else that is done to them."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from finetune_api.augmentation import ImageAugmentation

Picture = Image.Image
Settings = ImageAugmentation
Alteration = Callable[[Picture, Settings, np.ndarray], Picture]
"""Alters an image by three numbers between -1 and 1."""


def altered_image(image: Picture, settings: Settings, draws: np.random.Generator) -> Picture:
    """Each change with its probability, in a fixed order; as many numbers are drawn whatever is done."""
    happens = draws.random(len(ALTERATIONS)) < settings.probability
    amounts = draws.uniform(-1, 1, (len(ALTERATIONS), 3))
    for alter, wanted, amount in zip(ALTERATIONS, happens, amounts, strict=True):
        if wanted:
            image = alter(image, settings, amount)
    return image


def _mirror(image: Picture, settings: Settings, amount: np.ndarray) -> Picture:
    return ImageOps.mirror(image) if settings.horizontal_flip else image


def _flip(image: Picture, settings: Settings, amount: np.ndarray) -> Picture:
    return ImageOps.flip(image) if settings.vertical_flip else image


def _rotate(image: Picture, settings: Settings, amount: np.ndarray) -> Picture:
    if not settings.rotation:
        return image
    return image.rotate(float(amount[0]) * settings.rotation, Image.Resampling.BILINEAR)


def _crop(image: Picture, settings: Settings, amount: np.ndarray) -> Picture:
    """What stays has the image's own proportions; the model's processor brings it to its size."""
    if not settings.crop:
        return image
    share, left, top = (amount + 1) / 2
    side = (1 - settings.crop * share) ** 0.5
    width, height = max(1, round(image.width * side)), max(1, round(image.height * side))
    x, y = round(left * (image.width - width)), round(top * (image.height - height))
    return image.crop((x, y, x + width, y + height))


def _colour(image: Picture, settings: Settings, amount: np.ndarray) -> Picture:
    greatest = np.array([settings.brightness, settings.contrast, settings.saturation])
    for enhance, factor, limit in zip(ENHANCEMENTS, 1 + amount * greatest, greatest, strict=True):
        if limit:
            image = enhance(image).enhance(float(factor))
    return image


def _hue(image: Picture, settings: Settings, amount: np.ndarray) -> Picture:
    if not settings.hue:
        return image
    hue, saturation, value = image.convert("HSV").split()
    turned = (np.asarray(hue, dtype=np.int16) + round(float(amount[0]) * settings.hue * 256)) % 256
    return Image.merge("HSV", (Image.fromarray(turned.astype(np.uint8)), saturation, value)).convert("RGB")


ALTERATIONS: tuple[Alteration, ...] = (_mirror, _flip, _rotate, _crop, _colour, _hue)
ENHANCEMENTS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
