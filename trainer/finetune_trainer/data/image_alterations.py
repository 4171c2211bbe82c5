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
    """Each change with its probability, in a fixed order."""
    for alter, amount in drawn(settings, draws):
        image = alter(image, settings, amount)
    return image


def drawn(settings: Settings, draws: np.random.Generator) -> list[tuple[Alteration, np.ndarray]]:
    """What happens to an image, each with its three numbers; as many are drawn whatever is done."""
    happens = draws.random(len(ALTERATIONS)) < settings.probability
    amounts = draws.uniform(-1, 1, (len(ALTERATIONS), 3))
    return [(alter, amount) for alter, wanted, amount in zip(ALTERATIONS, happens, amounts, strict=True) if wanted]


def mirror(image: Picture, settings: Settings, amount: np.ndarray) -> Picture:
    """Left and right change places."""
    return ImageOps.mirror(image) if settings.horizontal_flip else image


def flip(image: Picture, settings: Settings, amount: np.ndarray) -> Picture:
    """Top and bottom change places."""
    return ImageOps.flip(image) if settings.vertical_flip else image


def rotate(image: Picture, settings: Settings, amount: np.ndarray) -> Picture:
    """About the centre; the size stays."""
    if not settings.rotation:
        return image
    return image.rotate(rotation_angle(settings, amount), Image.Resampling.BILINEAR)


def rotation_angle(settings: Settings, amount: np.ndarray) -> float:
    """Degrees, counter-clockwise."""
    return float(amount[0]) * settings.rotation


def crop(image: Picture, settings: Settings, amount: np.ndarray) -> Picture:
    """What stays has the image's own proportions; the model's processor brings it to its size."""
    if not settings.crop:
        return image
    return image.crop(crop_window(image.size, settings, amount))


def crop_window(size: tuple[int, int], settings: Settings, amount: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what stays of an image of `size`, width first."""
    share, left, top = (amount + 1) / 2
    side = (1 - settings.crop * share) ** 0.5
    width, height = max(1, round(size[0] * side)), max(1, round(size[1] * side))
    x, y = round(left * (size[0] - width)), round(top * (size[1] - height))
    return x, y, x + width, y + height


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


ALTERATIONS: tuple[Alteration, ...] = (mirror, flip, rotate, crop, _colour, _hue)
ENHANCEMENTS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
