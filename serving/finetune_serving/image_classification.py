"""Classifying images."""

import base64
from collections.abc import Iterator, Sequence
from io import BytesIO

import torch
from PIL import Image

from finetune_serving.classification import ClassPrediction, class_predictions, class_tensors
from finetune_serving.file_input import file_content
from finetune_serving.loading import LoadedModel
from finetune_serving.pictures import as_seen
from finetune_serving.prediction import BadInput, Row, Tensor
from finetune_serving.served_names import IMAGE_INPUT

MOST_PIXELS = 89_478_485
"""Beyond which Pillow warns of decompression bombs: some kilobytes that take a gigabyte."""
MOST_IN_ALL = 4 * MOST_PIXELS
"""Of the images of one request, which takes some seconds, in which no other request is read."""


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
        return [self._processor(image, return_tensors="pt")["pixel_values"][0] for image in read_images(rows)]

    @torch.inference_mode()
    def predict(self, encodings: Sequence[torch.Tensor]) -> list[ClassPrediction]:
        pixels = torch.stack(list(encodings)).to(self._model.device, self._model.dtype)
        return class_predictions(self._model(pixel_values=pixels).logits, self._labels)

    def outputs(self, predictions: Sequence[ClassPrediction]) -> dict[str, Tensor]:
        return class_tensors(predictions, self._labels)


def read_images(rows: Sequence[Row]) -> Iterator[Image.Image]:
    """One after the other, so that no more than one is in memory as it came. Raises BadInput."""
    pixels = 0
    for index, row in enumerate(rows):
        content = file_content(row[IMAGE_INPUT], index, IMAGE_INPUT)
        try:
            with Image.open(BytesIO(content)) as image:
                pixels += image.width * image.height
                _check_size(image.width, image.height, pixels)
                unpacked = as_seen(image)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise BadInput(index, IMAGE_INPUT, f"is not a readable image ({error})") from error
        yield unpacked


def _check_size(width: int, height: int, so_far: int) -> None:
    if width * height > MOST_PIXELS:
        raise ValueError(f"{width} × {height} pixels, of which at most {MOST_PIXELS} are read")
    if so_far > MOST_IN_ALL:
        raise ValueError(f"{so_far} pixels with those before it, of which at most {MOST_IN_ALL} are read; send fewer")
