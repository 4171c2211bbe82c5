"""Images in requests."""

import base64
from io import BytesIO

import pytest
from PIL import Image

from finetune_serving.image_classification import read_image
from finetune_serving.prediction import BadInput


def in_base64(width: int, height: int) -> str:
    content = BytesIO()
    Image.new("1", (width, height)).save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


def test_a_small_file_of_a_huge_image_is_refused_before_it_is_unpacked() -> None:
    huge = in_base64(10_000, 10_000)
    assert len(huge) < 2**16
    with pytest.raises(BadInput, match="10000 × 10000 pixels, of which at most 89478485 are read"):
        read_image(huge, 0)
    assert read_image(in_base64(20, 10), 0).size == (20, 10)
