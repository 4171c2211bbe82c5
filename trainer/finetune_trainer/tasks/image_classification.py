"""One class for a whole image."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from transformers import AutoModelForImageClassification
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

from finetune_api.augmentation import ImageAugmentation
from finetune_api.dataset import Columns
from finetune_trainer.data.batches import Draws
from finetune_trainer.data.encoded import LABEL, Encoded, Features
from finetune_trainer.data.examples import Example, label_column
from finetune_trainer.data.image_alterations import altered_image
from finetune_trainer.data.media import checked_image, media_column, read_image
from finetune_trainer.data.reading import Row
from finetune_trainer.tasks.file_classification import FileClassification
from finetune_trainer.tasks.file_task import FILE, file_of
from finetune_trainer.tasks.images import load_image_processor


class ImageClassification(FileClassification):
    """Columns `image` (a path) and `label`, or one folder a class."""

    name = "ImageClassification"
    unit = "images"
    model_class = AutoModelForImageClassification
    model_types = MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

    def __init__(self, columns: Columns, augmentation: ImageAugmentation | None = None) -> None:
        self._image = columns.image or "image"
        self._label = columns.label or "label"
        self._augmentation = augmentation
        self.alters = augmentation is not None

    def load_processor(self, folder: Path, trust_remote_code: bool = False) -> Any:
        return load_image_processor(folder, trust_remote_code)

    def read(self, row: Row) -> Example:
        label = label_column(row, self._label, "dataset.columns.label")
        path = media_column(row, self._image, "dataset.columns.image")
        return Example(checked_image(path, row)[0], row.where, label, target=str(path))

    def encode(self, examples: list[Example], processor: Any, labels: list[str]) -> list[Features]:
        places = {label: index for index, label in enumerate(labels)}
        return [Features({FILE: e.target.encode(), LABEL: [places[str(e.label)]]}, 1) for e in examples]

    def truncate(
        self, example: Example, features: Features, processor: Any, labels: list[str], max_length: int
    ) -> Features:
        """An image has the length 1, so this never happens."""
        return features

    def inputs(
        self, encoded: Encoded, examples: list[int], processor: Any, draws: Sequence[Draws], readers: ThreadPoolExecutor
    ) -> dict[str, Tensor]:
        def read(example: int, drawn: Draws) -> Image.Image:
            image = read_image(file_of(encoded, example))
            if drawn is None or self._augmentation is None:
                return image
            return altered_image(image, self._augmentation, drawn)

        images = list(readers.map(read, examples, draws))
        return {"pixel_values": processor(images, return_tensors="pt")["pixel_values"]}
