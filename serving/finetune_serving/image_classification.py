"""Classifying images."""

import base64
from collections.abc import Sequence
from io import BytesIO

import torch
from PIL import Image

from finetune_serving.classification import ClassPrediction, class_predictions, class_tensors
from finetune_serving.file_input import file_content
from finetune_serving.loading import LoadedModel
from finetune_serving.prediction import BadInput, Row, Tensor

IMAGE_INPUT = "image"
MOST_PIXELS = 89_478_485
"""Beyond which Pillow warns of decompression bombs: some kilobytes that take a gigabyte."""


def black_square() -> str:
    """An image of the server's own, in base64."""
    content = BytesIO()
    Image.new("RGB", (8, 8)).save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


class ImageClassifier:
    """Images are files of any usual format, in base64."""

    inputs = (IMAGE_INPUT,)

    def __init__(self, loaded: LoadedModel) -> None:
        self._model = loaded.model
        self._processor = loaded.processor
        self._labels = list(loaded.description.labels or [])
        self.warm_up: Row = {IMAGE_INPUT: black_square()}

    def encode(self, rows: Sequence[Row], truncate: bool = False) -> list[torch.Tensor]:
        images = [read_image(row[IMAGE_INPUT], index) for index, row in enumerate(rows)]
        return list(self._processor(images, return_tensors="pt")["pixel_values"])

    @torch.inference_mode()
    def predict(self, encodings: Sequence[torch.Tensor]) -> list[ClassPrediction]:
        pixels = torch.stack(list(encodings)).to(self._model.device, self._model.dtype)
        return class_predictions(self._model(pixel_values=pixels).logits, self._labels)

    def outputs(self, predictions: Sequence[ClassPrediction]) -> dict[str, Tensor]:
        return class_tensors(predictions, self._labels)


def read_image(text: str, index: int) -> Image.Image:
    """Raises BadInput."""
    content = file_content(text, index, IMAGE_INPUT)
    try:
        with Image.open(BytesIO(content)) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"{image.width} × {image.height} pixels, of which at most {MOST_PIXELS} are read")
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadInput(index, IMAGE_INPUT, f"is not a readable image ({error})") from error
