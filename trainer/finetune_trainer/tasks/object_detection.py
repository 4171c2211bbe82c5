"""Boxes around the objects on an image, with a class each."""

import importlib.util
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoConfig, AutoModelForObjectDetection

from finetune_api.augmentation import ImageAugmentation
from finetune_api.data_preparation import Cleaning
from finetune_api.dataset import Columns
from finetune_serving.detections import MASKED, centres, detections, model_inputs, scaled
from finetune_trainer.data.batches import Batch, Draws
from finetune_trainer.data.box_alterations import altered_objects
from finetune_trainer.data.encoded import LABEL, Encoded, Features
from finetune_trainer.data.examples import Example
from finetune_trainer.data.media import checked_image, media_column, read_image
from finetune_trainer.data.objects import bad_boxes_of, objects_of
from finetune_trainer.data.parts import Parts
from finetune_trainer.data.reading import Row
from finetune_trainer.errors import ConfigurationError, DataError
from finetune_trainer.metrics.detections import BOXES, CROWD, SIZE, DetectionScores, Found
from finetune_trainer.tasks.classes import name_classes
from finetune_trainer.tasks.detection_loss import Objects, Weights, set_loss_sum
from finetune_trainer.tasks.file_task import FILE, FileTask, file_of
from finetune_trainer.tasks.images import load_image_processor

SHARES, OBJECTS_AN_IMAGE = "shares", "objects_an_image"
"""Among a batch's extras."""
MENDED = "mended"
"""The column of the numbers of boxes dropped and clipped."""
View = tuple[Image.Image, np.ndarray, np.ndarray]
"""An image with the corners and classes of what is to be learnt on it."""


class ObjectDetection(FileTask):
    """COCO's annotations, or columns `image` (a path) and `objects`."""

    name = "ObjectDetection"
    unit = "images"
    model_class = AutoModelForObjectDetection
    model_types = ("detr", "yolos")
    heads = ("class_labels_classifier", "bbox_predictor")

    def __init__(
        self, columns: Columns, cleaning: Cleaning | None = None, augmentation: ImageAugmentation | None = None
    ) -> None:
        self._image = columns.image or "image"
        self._objects = columns.objects or "objects"
        self._bad_boxes = bad_boxes_of(cleaning)
        self._augmentation = augmentation
        self.alters = augmentation is not None
        self._config: Any = None
        """The model's, once its folder is known: what it can see, and what its loss is made of."""

    def load_processor(self, folder: Path, trust_remote_code: bool = False) -> Any:
        """A model that cannot be told where an image ends gets all of them in one frame, so that what it is given for
        an image does not depend on the others of a batch."""
        self._config = AutoConfig.from_pretrained(str(folder), trust_remote_code=trust_remote_code)
        _check_backbone(self._config)
        if self._config.model_type in MASKED:
            return load_image_processor(folder, trust_remote_code)
        height, width = _frame(self._config.image_size)
        size, frame = {"max_height": height, "max_width": width}, {"height": height, "width": width}
        return load_image_processor(folder, trust_remote_code, size=size, pad_size=frame, do_pad=True)

    def read(self, row: Row) -> Example:
        path = media_column(row, self._image, "dataset.columns.image")
        identity, size = checked_image(path, row)
        return Example(identity, row.where, target=objects_of(row, self._objects, str(path), size, self._bad_boxes))

    def labels(self, parts: Parts) -> list[str]:
        known = sorted({category for example in parts.train for category in example.target.categories})
        if not known:
            raise DataError("dataset.train: no image has an object, so there is nothing to learn")
        for part in (parts.validation, parts.test):
            for example in part:
                for category in example.target.categories:
                    if category not in known:
                        raise DataError(
                            f"{example.where}: the category {category!r} is on no training image, so the model cannot "
                            f"learn it; training has: {', '.join(known[:20])}. Add images, or choose another "
                            "dataset.split.seed"
                        )
        return known

    def encode(self, examples: list[Example], processor: Any, labels: list[str]) -> list[Features]:
        places = {label: index for index, label in enumerate(labels)}
        return [self._features(example, places) for example in examples]

    def _features(self, example: Example, places: dict[str, int]) -> Features:
        objects = example.target
        queries = self._config.num_queries if self._config.model_type == "detr" else self._config.num_detection_tokens
        if (learnt := int((~objects.crowd).sum())) > queries:
            raise DataError(
                f"{example.where}: {learnt} objects, but the model can find {queries} on an image at most; cut the "
                "image into parts, or use a model with more queries"
            )
        columns = {
            FILE: objects.path.encode(),
            LABEL: np.asarray([places[category] for category in objects.categories], dtype=np.int32),
            BOXES: objects.boxes.reshape(-1),
            CROWD: objects.crowd,
            SIZE: np.asarray([objects.width, objects.height], dtype=np.int32),
            MENDED: np.asarray([objects.dropped, objects.clipped], dtype=np.int32),
        }
        return Features(columns, 1)

    def truncate(
        self, example: Example, features: Features, processor: Any, labels: list[str], max_length: int
    ) -> Features:
        """An image has the length 1, so this never happens."""
        return features

    def complete_report(self, report: dict[str, Any], encoded: Encoded) -> None:
        if not len(encoded):
            return
        dropped, clipped = np.asarray(encoded[MENDED].values).reshape(-1, 2).sum(axis=0).tolist()
        report["dropped"]["badBoxes"] = dropped
        report["boxes"] = {
            "kept": len(encoded[LABEL].values),
            "crowds": int(np.count_nonzero(encoded[CROWD].values)),
            "clipped": clipped,
            "imagesWithout": int((np.diff(encoded[LABEL].offsets) == 0).sum()),
        }

    def configure(self, config: Any, processor: Any, labels: list[str]) -> None:
        name_classes(config, labels)

    def batch(
        self, encoded: Encoded, examples: list[int], processor: Any, draws: Sequence[Draws], readers: ThreadPoolExecutor
    ) -> Batch:
        def view(example: int, drawn: Draws) -> View:
            return self._view(encoded, example, drawn)

        views = list(readers.map(view, examples, draws))
        whole, shares = scaled([image for image, _, _ in views], processor)
        boxes = [_relative(corners, image) for image, corners, _ in views]
        masked = self._config.model_type in MASKED
        if not masked:
            boxes = [part * share.repeat(2) for part, share in zip(boxes, shares, strict=True)]
        mean = max(1.0, len(encoded[LABEL].values) / len(encoded))
        return Batch(
            inputs=model_inputs(whole, masked),
            positions=torch.repeat_interleave(torch.tensor([len(part) for part in boxes])),
            targets=torch.from_numpy(np.concatenate([classes for _, _, classes in views]).astype(np.int64)),
            extras={BOXES: torch.cat(boxes), SHARES: shares, OBJECTS_AN_IMAGE: torch.tensor(mean)},
        )

    def _view(self, encoded: Encoded, example: int, drawn: Draws) -> View:
        image = read_image(file_of(encoded, example))
        learnt = ~np.asarray(encoded[CROWD][example], dtype=bool)
        corners = np.asarray(encoded[BOXES][example], dtype=np.float32).reshape(-1, 4)[learnt]
        classes = np.asarray(encoded[LABEL][example])[learnt]
        if drawn is None or self._augmentation is None:
            return image, corners, classes
        image, corners, stays = altered_objects(image, corners, self._augmentation, drawn)
        return image, corners[stays], classes[stays]

    def outputs(self, model: Any, batch: Batch) -> Tensor:
        return torch.cat(self._found(model, batch), dim=-1)

    def loss_sum(self, model: Any, batch: Batch, label_smoothing: float) -> Tensor:
        return self._loss(*self._found(model, batch), batch, label_smoothing)

    def predictions(self, model: Any, batch: Batch) -> Found:
        logits, boxes = self._found(model, batch)
        shares = None if self._config.model_type in MASKED else batch.extras[SHARES]
        return *detections(logits, boxes, shares), self._loss(logits, boxes, batch, 0.0)

    def scores(self, labels: list[str], processor: Any, encoded: Encoded) -> DetectionScores:
        return DetectionScores(labels, encoded)

    def _found(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        output = model(**batch.inputs)
        return output.logits, output.pred_boxes

    def _loss(self, logits: Tensor, boxes: Tensor, batch: Batch, label_smoothing: float) -> Tensor:
        objects = Objects(batch.positions, batch.targets, batch.extras[BOXES], batch.extras[OBJECTS_AN_IMAGE])
        return set_loss_sum(logits, boxes, objects, Weights.of(self._config), label_smoothing)


def _relative(corners: np.ndarray, image: Image.Image) -> Tensor:
    """Centres and sides as parts of the image."""
    return centres(torch.from_numpy(corners / np.asarray([*image.size, *image.size], dtype=np.float32)))


def _frame(size: int | Sequence[int]) -> tuple[int, int]:
    """Height and width."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _check_backbone(config: Any) -> None:
    backbone = getattr(config, "backbone_config", None)
    if getattr(backbone, "model_type", None) == "timm_backbone" and importlib.util.find_spec("timm") is None:
        raise ConfigurationError(
            "model.source: the model's backbone is one of the library timm, which is not installed; use a revision "
            "with a backbone of transformers, such as model.revision no_timm of facebook/detr-resnet-50"
        )
