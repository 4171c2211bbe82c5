"""Images as a model's inputs, the same in training and serving: upright, with three colours of 8 bits."""

from typing import Any

import numpy as np
from PIL import ExifTags, Image

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By EXIF's orientation: cameras write what the sensor saw, and how it was held beside it."""
BOUNDLESS = ("I", "F")
"""Pixels of 32 bits, of which nothing says what is white."""


def as_seen(image: Image.Image) -> Image.Image:
    """An opened image as people see it. Pillow alone would turn all but the darkest of 16 bits white.

    Raises:
        ValueError: Nothing says how bright its pixels are.
    """
    image.load()
    if image.mode in BOUNDLESS:
        raise ValueError("pixels of 32 bits, of which nothing says what is white; save it with 8 or 16 bits a channel")
    turn = UPRIGHT.get(_orientation(image))
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    colours = image.convert("RGB")
    return colours if turn is None else colours.transpose(turn)


def _orientation(image: Image.Image) -> Any:
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # Pillow's reader of a damaged one raises whatever it stumbles over; the image is as good
        return None
