"""Finding objects on images."""

from collections.abc import Sequence
from dataclasses import dataclass

import orjson
import torch

from finetune_serving.detections import MASKED, detections, model_inputs, scaled
from finetune_serving.image_classification import black_square, read_images
from finetune_serving.loading import LoadedModel
from finetune_serving.prediction import Row, Tensor
from finetune_serving.served_names import IMAGE_INPUT

MOST = 100
"""Objects that an answer holds at most, as many as COCO's metrics look at."""
LEAST_SCORE = 0.05
"""What is less likely is left out."""
Found = list[dict[str, str | float | list[float]]]


@dataclass(frozen=True)
class ScaledImage:
    """One image as numbers."""

    inputs: dict[str, torch.Tensor]
    shares: torch.Tensor
    size: tuple[int, int]
    """Of the image as it came, width first."""


class ObjectDetector:
    """Images are files of any usual format, in base64; boxes are in their pixels."""

    inputs = (IMAGE_INPUT,)

    def __init__(self, loaded: LoadedModel) -> None:
        self._model = loaded.model
        self._masked = loaded.model.config.model_type in MASKED
        self._processor = loaded.processor
        self._labels = list(loaded.description.labels or [])
        self.warm_up: Row = {IMAGE_INPUT: black_square()}

    def encode(self, rows: Sequence[Row], truncate: bool = False) -> list[ScaledImage]:
        return [ScaledImage(*scaled([image], self._processor), image.size) for image in read_images(rows)]

    @torch.inference_mode()
    def predict(self, encodings: Sequence[ScaledImage]) -> list[Found]:
        """Images of one size share a forward pass: none is padded for the sake of its neighbours."""
        groups: dict[torch.Size, list[int]] = {}
        for place, encoding in enumerate(encodings):
            groups.setdefault(encoding.inputs["pixel_values"].shape, []).append(place)
        found: dict[int, Found] = {}
        for places in groups.values():
            found |= zip(places, self._found([encodings[place] for place in places]), strict=True)
        return [found[place] for place in range(len(encodings))]

    def _found(self, images: Sequence[ScaledImage]) -> list[Found]:
        batch = {name: torch.cat([image.inputs[name] for image in images]) for name in images[0].inputs}
        batch["pixel_values"] = batch["pixel_values"].to(self._model.dtype)
        inputs = model_inputs(batch, self._masked)
        output = self._model(**{name: tensor.to(self._model.device) for name, tensor in inputs.items()})
        shares = None if self._masked else torch.cat([image.shares for image in images])
        answers = zip(*(t.cpu() for t in detections(output.logits, output.pred_boxes, shares)), images, strict=True)
        return [self._objects(scores, classes, boxes, image.size) for scores, classes, boxes, image in answers]

    def _objects(
        self, scores: torch.Tensor, classes: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int]
    ) -> Found:
        """Best first."""
        best = scores.argsort(descending=True, stable=True)[:MOST]
        best = best[scores[best] >= LEAST_SCORE]
        pixels = boxes[best] * torch.tensor([*size, *size])
        pixels[:, 2:] -= pixels[:, :2]
        return [
            {"label": self._labels[label], "score": score, "box": box}
            for label, score, box in zip(classes[best].tolist(), scores[best].tolist(), pixels.tolist(), strict=True)
        ]

    def outputs(self, predictions: Sequence[Found]) -> dict[str, Tensor]:
        found = [orjson.dumps(prediction).decode() for prediction in predictions]
        return {
            "objects": {
                "datatype": "BYTES",
                "shape": [len(predictions)],
                "parameters": {"labels": self._labels},
                "data": found,
            }
        }
