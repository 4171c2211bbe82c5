"""Objects on an image: looked at once, where the row is known."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from finetune_api.data_preparation import Cleaning
from finetune_trainer.data.examples import column
from finetune_trainer.data.row import Row
from finetune_trainer.errors import DataError

ROUNDING = 1.0
"""Pixels by which a box may leave its image without being wrong: tools round corners one by one."""


@dataclass(frozen=True)
class ImageObjects:
    """What is to be found on an image."""

    path: str
    width: int
    height: int
    categories: list[str]
    boxes: np.ndarray
    """Left, top, right and bottom in pixels, (objects, 4)."""
    crowd: np.ndarray
    """Whether a box holds many objects of its category: not learnt, and nothing found in it is wrong. (objects,)"""
    dropped: int = 0
    """Boxes left out by `cleaning.badBoxes`,"""
    clipped: int = 0
    """and those cut at the edges."""


def objects_of(row: Row, name: str, path: str, size: tuple[int, int], bad_boxes: str) -> ImageObjects:
    """The objects in a column of the row. Raises DataError naming the row, or the annotation.

    `size` is the image's, width first; `bad_boxes` is `cleaning.badBoxes`.
    """
    width, height = size
    _check_size(row, size)
    categories, boxes, crowd, dropped, clipped = [], [], [], 0, 0
    for place, record in enumerate(_records(row, name)):
        where = record.get("where") or f"{row.where}: {name}[{place}]"
        box = _numbers(record, where)
        fitting, problem = _fitted(box, width, height)
        if problem and bad_boxes == "Error":
            raise DataError(
                f"{where}: the box {_shown(box)} (x, y, width, height) {problem}; mend it, or set "
                "dataset.cleaning.badBoxes to Clip or Drop"
            )
        if problem and (bad_boxes == "Drop" or fitting is None):
            dropped += 1
            continue
        assert fitting is not None
        clipped += problem is not None
        categories.append(_category(record, where))
        boxes.append(fitting)
        crowd.append(bool(record.get("iscrowd")))
    corners = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
    return ImageObjects(path, width, height, categories, corners, np.asarray(crowd, dtype=bool), dropped, clipped)


def bad_boxes_of(cleaning: Cleaning | None) -> str:
    """What the job wants done with a bad box."""
    return cleaning.bad_boxes if cleaning else "Error"


def _check_size(row: Row, size: tuple[int, int]) -> None:
    said = row.values.get("width"), row.values.get("height")
    if None not in said and said != size:
        raise DataError(
            f"{row.where}: the data says {said[0]} × {said[1]} pixels, the image has {size[0]} × {size[1]}, so its "
            "boxes are of another image, or of this one turned (EXIF); export the annotations again"
        )


def _records(row: Row, name: str) -> list[Mapping[str, Any]]:
    """One object a record; columns of lists, as parquet files often have, are turned into records."""
    found = column(row, name, "dataset.columns.objects")
    if isinstance(found, Mapping):
        lists = {key: values for key, values in found.items() if isinstance(values, list)}
        if len({len(values) for values in lists.values()}) > 1:
            raise DataError(f"{row.where}: the lists in column {name!r} have different lengths")
        found = [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]
    if not isinstance(found, list) or not all(isinstance(record, Mapping) for record in found):
        raise DataError(
            f"{row.where}: column {name!r} must hold a list of objects like "
            '{"bbox": [x, y, width, height], "category": "cat"}; an image without any has []'
        )
    return found


def _numbers(record: Mapping[str, Any], where: str) -> list[float]:
    box = record.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in box):
        raise DataError(f"{where}: bbox must be four numbers, [x, y, width, height] in pixels; got {box!r}")
    return [float(value) for value in box]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _fitted(box: list[float], width: int, height: int) -> tuple[list[float] | None, str | None]:
    """Corners within the image (None where nothing is left), and what was wrong."""
    x, y, w, h = box
    if w <= 0 or h <= 0:
        return None, "has no area"
    corners = [max(0.0, x), max(0.0, y), min(float(width), x + w), min(float(height), y + h)]
    outside = max(-x, -y, x + w - width, y + h - height) > ROUNDING
    problem = f"leaves the image of {width} × {height} pixels" if outside else None
    if corners[2] <= corners[0] or corners[3] <= corners[1]:
        return None, f"is not on the image of {width} × {height} pixels"
    return corners, problem


def _category(record: Mapping[str, Any], where: str) -> str:
    category = record.get("category")
    if isinstance(category, bool) or not isinstance(category, str | int) or not str(category).strip():
        raise DataError(f"{where}: category must be a string or an integer; got {category!r}")
    return str(category)


def _shown(box: list[float]) -> str:
    return "[" + ", ".join(f"{value:g}" for value in box) + "]"
