"""One class for a whole image."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import TaskType
from transformers import AutoImageProcessor, AutoModelForImageClassification
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

from finetune_api.dataset import Columns
from finetune_trainer.data.batches import Batch, Collate
from finetune_trainer.data.encoded import LABEL, Encoded, Features
from finetune_trainer.data.examples import Example, label_column
from finetune_trainer.data.media import checked_image, media_column, read_image
from finetune_trainer.data.reading import Row
from finetune_trainer.data.split import Parts
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.metrics.classification import ClassScores
from finetune_trainer.processors import usable_processors
from finetune_trainer.tasks.classes import CLASSIFIER_HEADS, known_labels, name_classes
from finetune_trainer.tasks.cross_entropy import CrossEntropy

FILE = "file"
"""The column of paths."""


class ImageClassification(CrossEntropy):
    """Columns `image` (a path) and `label`, or one folder a class."""

    name = "ImageClassification"
    unit = "images"
    reads_files = True
    model_class = AutoModelForImageClassification
    model_types = MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES
    heads = CLASSIFIER_HEADS
    peft_type: TaskType | None = None

    def __init__(self, columns: Columns) -> None:
        self._image = columns.image or "image"
        self._label = columns.label or "label"

    def load_processor(self, folder: Path, trust_remote_code: bool = False) -> Any:
        """Pillow's resizing everywhere: torchvision's gives other pixels, and the server may not have it."""
        try:
            return AutoImageProcessor.from_pretrained(
                str(folder), backend="pil", trust_remote_code=trust_remote_code, local_files_only=True
            )
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise ConfigurationError(
                f"model.source: {folder} has no usable preprocessor_config.json, which says how images are scaled: "
                f"{error}"
            ) from error

    def read(self, row: Row) -> Example:
        label = label_column(row, self._label, "dataset.columns.label")
        path = media_column(row, self._image, "dataset.columns.image")
        return Example(checked_image(path, row), row.where, label, target=str(path))

    def labels(self, parts: Parts) -> list[str]:
        return known_labels(parts)

    def encode(self, examples: list[Example], processor: Any, labels: list[str]) -> list[Features]:
        places = {label: index for index, label in enumerate(labels)}
        return [Features({FILE: e.target.encode(), LABEL: [places[str(e.label)]]}, 1) for e in examples]

    def truncate(
        self, example: Example, features: Features, processor: Any, labels: list[str], max_length: int
    ) -> Features:
        """An image has the length 1, so this never happens."""
        return features

    def configure(self, config: Any, processor: Any, labels: list[str]) -> None:
        name_classes(config, labels)
        config.problem_type = "single_label_classification"

    def rows(self, encoded: Encoded, max_length: int) -> list[list[int]]:
        return [[index] for index in range(len(encoded))]

    def collator(self, processor: Any) -> Collate:
        readers = ThreadPoolExecutor(min(8, usable_processors()), "images")

        def collate(encoded: Encoded, rows: list[list[int]]) -> Batch:
            assert encoded.labels is not None
            examples = [row[0] for row in rows]
            images = list(readers.map(read_image, [encoded[FILE][i].tobytes().decode() for i in examples]))
            pixels = processor(images, return_tensors="pt")["pixel_values"]
            targets = torch.from_numpy(np.asarray(encoded.labels[examples], dtype=np.int64))
            return Batch({"pixel_values": pixels}, torch.arange(len(examples)), targets)

        return collate

    def scores(self, labels: list[str], processor: Any, encoded: Encoded) -> ClassScores:
        return ClassScores(labels)
