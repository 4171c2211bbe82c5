"""Images in requests."""

import base64
from io import BytesIO

import pytest
from PIL import Image

from finetune_serving import image_classification
from finetune_serving.image_classification import read_images
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
