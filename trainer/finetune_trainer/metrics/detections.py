"""What object detection is measured by: COCO's average precision (https://cocodataset.org/#detection-eval)."""

import io
from contextlib import redirect_stdout
from typing import Any

import numpy as np
from torch import Tensor

from finetune_trainer.data.batches import Batch
from finetune_trainer.data.encoded import LABEL, Encoded
from finetune_trainer.metrics.scores import Evaluation

BOXES, CROWD, SIZE = "boxes", "crowd", "size"
"""Columns: corners in pixels, whether a box is a crowd, the image's width and height."""
MOST = 100
"""Objects an image that count, the most likely ones."""
Found = tuple[Tensor, Tensor, Tensor, Tensor]
"""Scores, classes and corners as parts of the image (see `detections`), and the loss summed over images."""


class DetectionScores:
    """Keeps what was found on each image; COCO's own code compares it with what is there."""

    def __init__(self, labels: list[str], encoded: Encoded) -> None:
        self._labels = labels
        self._encoded = encoded
        self._parts: list[tuple[np.ndarray, Found]] = []

    def add(self, predictions: Found, batch: Batch, rows: np.ndarray) -> None:
        self._parts.append((rows, predictions))

    def share(self) -> Any:
        return [(rows, *(tensor.float().cpu().numpy() for tensor in found)) for rows, found in self._parts]

    def result(self, shares: list[Any]) -> Evaluation:
        parts = [part for share in shares for part in share]
        loss = float(sum(loss for *_, loss in parts)) / max(1, len(self._encoded))
        wanted = self._wanted()
        if not any(not annotation["iscrowd"] for annotation in wanted):
            reason = "there is no object in the held-out data"
            return Evaluation({"loss": loss}, {}, dict.fromkeys(("mAP", "mAP50", "mAP75", "recall"), reason))
        found = sorted((image for part in parts for image in self._found(*part)), key=lambda each: each[0])
        precision, recall = _evaluated(wanted, [one for _, image in found for one in image], self._labels, len(found))
        return Evaluation({**_metrics(precision, recall), "loss": loss}, self._details(precision, wanted))

    def _wanted(self) -> list[dict[str, Any]]:
        encoded = self._encoded
        annotations: list[dict[str, Any]] = []
        for image in range(len(encoded)):
            boxes = np.asarray(encoded[BOXES][image], dtype=np.float64).reshape(-1, 4)
            for label, corners, crowd in zip(encoded[LABEL][image], boxes, encoded[CROWD][image], strict=True):
                box = [*corners[:2].tolist(), *(corners[2:] - corners[:2]).tolist()]
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image,
                        "category_id": int(label),
                        "bbox": box,
                        "area": box[2] * box[3],
                        "iscrowd": int(crowd),
                    }
                )
        return annotations

    def _found(
        self, rows: np.ndarray, scores: np.ndarray, classes: np.ndarray, corners: np.ndarray, loss: np.ndarray
    ) -> list[tuple[int, list[dict[str, Any]]]]:
        images = []
        for row, image_scores, image_classes, image_corners in zip(rows, scores, classes, corners, strict=True):
            size = np.asarray(self._encoded[SIZE][int(row)], dtype=np.float64)
            pixels = image_corners.astype(np.float64) * np.concatenate([size, size])
            best = np.argsort(-image_scores, kind="stable")[:MOST]
            images.append(
                (
                    int(row),
                    [
                        {
                            "image_id": int(row),
                            "category_id": int(image_classes[i]),
                            "bbox": [*pixels[i, :2].tolist(), *(pixels[i, 2:] - pixels[i, :2]).tolist()],
                            "score": float(image_scores[i]),
                        }
                        for i in best
                    ],
                )
            )
        return images

    def _details(self, precision: np.ndarray, wanted: list[dict[str, Any]]) -> dict[str, Any]:
        objects = np.bincount([one["category_id"] for one in wanted if not one["iscrowd"]], minlength=len(self._labels))
        classes = {
            label: {"mAP": mean if (mean := _mean(precision[:, :, place])) is not None else None, "objects": int(count)}
            for place, (label, count) in enumerate(zip(self._labels, objects, strict=True))
        }
        return {"examples": len(self._encoded), "classes": classes}


def _evaluated(
    wanted: list[dict[str, Any]], found: list[dict[str, Any]], labels: list[str], images: int
) -> tuple[np.ndarray, np.ndarray]:
    """Precision by (overlap, recall, class) and recall by (overlap, class); -1 where a class has no object."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with redirect_stdout(io.StringIO()):  # it prints what it does
        truth = COCO()
        truth.dataset = {
            "images": [{"id": image} for image in range(images)],
            "annotations": wanted,
            "categories": [{"id": place, "name": label} for place, label in enumerate(labels)],
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
        evaluation.params.maxDets = [MOST]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"][..., 0, 0], evaluation.eval["recall"][..., 0, 0]


def _metrics(precision: np.ndarray, recall: np.ndarray) -> dict[str, float]:
    """Overlaps are 0.5, 0.55 … 0.95."""
    kinds = {"mAP": precision, "mAP50": precision[0], "mAP75": precision[5], "recall": recall}
    return {name: mean for name, values in kinds.items() if (mean := _mean(values)) is not None}


def _mean(values: np.ndarray) -> float | None:
    known = values[values > -1]
    return float(known.mean()) if known.size else None
