"""Images in requests."""

import base64
from io import BytesIO

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from finetune_serving import image_classification
from finetune_serving.image_classification import read_images
from finetune_serving.pictures import as_seen
from finetune_serving.prediction import BadInput


def in_base64(width: int, height: int) -> str:
    content = BytesIO()
    Image.new("1", (width, height)).save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


def unpacked(*images: str) -> list[tuple[int, int]]:
    return [image.size for image in read_images([{"image": image} for image in images])]


def test_a_small_file_of_a_huge_image_is_refused_before_it_is_unpacked() -> None:
    huge = in_base64(10_000, 10_000)
    assert len(huge) < 2**16
    with pytest.raises(BadInput, match="10000 × 10000 pixels, of which at most 89478485 are read"):
        unpacked(huge)
    assert unpacked(in_base64(20, 10)) == [(20, 10)]


def test_many_of_them_are_too_many_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_classification, "MOST_IN_ALL", 1000)
    image = in_base64(20, 20)
    assert unpacked(image, image) == [(20, 20), (20, 20)]
    with pytest.raises(BadInput, match="1200 pixels with those before it, of which at most 1000 are read; send fewer"):
        unpacked(image, image, image)


def saved(image: Image.Image, form: str, **options: object) -> Image.Image:
    content = BytesIO()
    image.save(content, form, **options)
    return Image.open(BytesIO(content.getvalue()))


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_16_bits_of_grey_are_as_bright_as_8(form: str) -> None:
    """Pillow's own conversion cuts at 255, which makes an X-ray white."""
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    deep = saved(Image.fromarray(grey.astype(np.uint16) * 257), form)
    assert deep.mode == "I;16"
    assert (np.asarray(as_seen(deep)) == grey[..., None]).all()


def test_pixels_without_a_known_white_are_refused() -> None:
    with pytest.raises(ValueError, match="32 bits, of which nothing says what is white; save it with 8 or 16"):
        as_seen(saved(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    pixels = np.random.default_rng(0).integers(256, size=(2, 3, 3), dtype=np.uint8)
    held = saved(Image.fromarray(pixels), "PNG", exif=exif)
    assert (np.asarray(as_seen(held)) == np.asarray(ImageOps.exif_transpose(held))).all()
