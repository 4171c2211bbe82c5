"""Objects on images: COCO's files and plain rows give the same, and what is wrong is named by its annotation."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from finetune_api.data_preparation import Cleaning
from finetune_api.dataset import Columns, DataFile, Dataset
from finetune_trainer.data.cleaner import Cleaner, Tally
from finetune_trainer.data.prepare import _examples, _fetched
from finetune_trainer.data.reading import read_rows
from finetune_trainer.errors import DataError
from finetune_trainer.tasks.object_detection import ObjectDetection
from trainer.jobs import write_jsonl

CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]


def images(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        Image.new("RGB", (20, 10), (number, 0, 0)).save(folder / name)
    return folder


def coco(file: Path, *boxes: Any, **changes: Any) -> Path:
    """One annotation a box, all of them on image 1 of a.png."""
    annotations = [
        {"id": n, "image_id": 1, "category_id": 3, "bbox": box, "iscrowd": 0} for n, box in enumerate(boxes, 1)
    ]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 20, "height": 10}],
        "annotations": annotations,
        "categories": CATEGORIES,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**content, **changes}))
    return file


def examples(path: Path, bad_boxes: Any = "Error") -> list[Any]:
    task = ObjectDetection(Columns(), Cleaning(bad_boxes=bad_boxes))
    return [task.read(row) for row in read_rows(path, "Auto", "dataset.train")]


@pytest.mark.parametrize(
    ("file", "folder"),
    [
        ("_annotations.coco.json", "."),
        ("instances.json", "images"),
        ("annotations/instances_train2017.json", "train2017"),
        ("annotations/instances_train2017.json", "images/train2017"),
    ],
)
def test_the_usual_layouts_are_found(file: str, folder: str, tmp_path: Path) -> None:
    images(tmp_path / folder, "a.png")
    coco(tmp_path / file, [1, 2, 3, 4])
    [example] = examples(tmp_path)
    assert Path(example.target.path) == tmp_path / folder / "a.png"
    assert (example.target.categories, example.target.boxes.tolist()) == (["cat"], [[1, 2, 4, 6]])
    assert str(example.where) == f"dataset.train: {file} image 1 (a.png)"


def test_rows_say_the_same_in_either_form(tmp_path: Path) -> None:
    images(tmp_path, "a.png")
    coco(tmp_path / "coco.json", [1, 2, 3, 4], [5, 5, 5, 5])
    [expected] = examples(tmp_path / "coco.json")
    records = [{"bbox": [1, 2, 3, 4], "category": "cat"}, {"bbox": [5, 5, 5, 5], "category": "cat"}]
    lists = {"bbox": [[1, 2, 3, 4], [5, 5, 5, 5]], "category": ["cat", "cat"]}
    for objects in (records, lists):
        [found] = examples(write_jsonl(tmp_path / "rows.jsonl", [{"image": "a.png", "objects": objects}]))
        assert found.identity == expected.identity
        assert found.target.categories == expected.target.categories
        assert np.array_equal(found.target.boxes, expected.target.boxes)


def test_one_of_several_files_must_be_named(tmp_path: Path) -> None:
    images(tmp_path / "images", "a.png")
    for name in ("train", "val"):
        coco(tmp_path / "annotations" / f"{name}.json", [1, 2, 3, 4])
    with pytest.raises(DataError, match=r"annotations/train\.json, annotations/val\.json.*dataset\.train\.annotations"):
        examples(tmp_path)
    file = DataFile(source="s3://data/boxes", annotations="annotations/val.json")
    assert _fetched(lambda uri: tmp_path, file, "train") == tmp_path / "annotations" / "val.json"
    with pytest.raises(DataError, match=r"dataset\.train\.annotations: b\.json is not in s3://data/boxes"):
        _fetched(lambda uri: tmp_path, DataFile(source="s3://data/boxes", annotations="b.json"), "train")
    with pytest.raises(ValueError, match="annotations is for the format Coco"):
        DataFile(source="s3://data/boxes", annotations="b.json", format="Csv")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"annotations": [{"id": 5, "image_id": 9, "category_id": 3, "bbox": [0, 0, 1, 1]}]},
         r"coco\.json annotation 5: there is no image with the id 9"),
        ({"annotations": [{"id": 5, "image_id": 1, "category_id": 4, "bbox": [0, 0, 1, 1]}]},
         r"coco\.json annotation 5: there is no category with the id 4; there are: 3, 7"),
        ({"annotations": [{"id": 5, "image_id": 1, "category_id": 3}]}, r"coco\.json annotation 5: no 'bbox'"),
        ({"annotations": [{"id": 5, "image_id": 1, "category_id": 3, "bbox": [0, 0, 1]}]},
         r"coco\.json annotation 5: bbox must be four numbers.*got \[0, 0, 1\]"),
        ({"images": [{"id": 1, "file_name": "a.png"}] * 2}, "two images have the id 1"),
        ({"categories": [{"id": 3, "name": "cat"}, {"id": 3, "name": "dog"}]}, "two categories have the id 3"),
        ({"images": [{"id": 1}]}, r"coco\.json image 1: no 'file_name'"),
        ({"images": [{"id": 1, "file_name": "b.png"}]}, r"1 \(b\.png\): image 'b\.png' is not in .*badFiles: Drop"),
        ({"images": [{"id": 1, "file_name": "a.png", "width": 10, "height": 20}]},
         r"image 1 \(a\.png\): the data says 10 × 20 pixels, the image has 20 × 10.*EXIF"),
        ({"categories": None}, r"coco\.json: not COCO's format, which is an object with the lists images, annotations"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_named(changes: dict[str, Any], expected: str, tmp_path: Path) -> None:
    images(tmp_path, "a.png")
    with pytest.raises(DataError, match=expected):
        examples(coco(tmp_path / "coco.json", **changes))


BAD = {
    "leaves the image of 20 × 10 pixels": [15, 2, 10, 4],
    "is not on the image of 20 × 10 pixels": [25, 2, 3, 4],
    "has no area": [5, 5, 0, 4],
}


@pytest.mark.parametrize("problem", BAD)
def test_a_bad_box_is_an_error_that_names_the_annotation(problem: str, tmp_path: Path) -> None:
    images(tmp_path, "a.png")
    file = coco(tmp_path / "coco.json", [1, 2, 3, 4], BAD[problem])
    with pytest.raises(DataError, match=rf"coco\.json annotation 2: the box \[.*\] .* {problem}; .*badBoxes to Clip"):
        examples(file)


def test_bad_boxes_are_clipped_or_dropped_and_counted(tmp_path: Path) -> None:
    images(tmp_path, "a.png")
    file = coco(tmp_path / "coco.json", [1, 2, 3, 4], *BAD.values(), [-0.4, 0, 5, 10.5])
    [clipped], [dropped] = examples(file, "Clip"), examples(file, "Drop")
    assert clipped.target.boxes.tolist() == pytest.approx(np.array([[1, 2, 4, 6], [15, 2, 20, 6], [0, 0, 4.6, 10]]))
    assert (clipped.target.dropped, clipped.target.clipped) == (2, 1)
    assert (len(dropped.target.boxes), dropped.target.dropped, dropped.target.clipped) == (2, 3, 0)


def test_a_missing_image_may_be_dropped_and_is_counted(tmp_path: Path) -> None:
    images(tmp_path, "a.png")
    both = [{"id": n, "file_name": name} for n, name in enumerate(["a.png", "b.png"])]
    file = coco(tmp_path / "coco.json", images=both)
    task, cleaner, tally = ObjectDetection(Columns()), Cleaner(Cleaning(bad_files="Drop")), Tally()
    [kept] = _examples(read_rows(file, "Coco", "train"), task, None, cleaner, tally)
    assert kept.target.categories == []
    assert tally.report()["dropped"] == {"badFiles": 1}


@pytest.mark.parametrize(
    ("task", "cleaning", "expected"),
    [
        ("ObjectDetection", {"badBoxes": "Clip", "badFiles": "Drop", "duplicates": "Drop"}, []),
        ("ImageClassification", {"badFiles": "Drop"}, []),
        ("TextClassification", {"badFiles": "Drop"}, ["dataset.cleaning.badFiles: TextClassification data names no"]),
        ("ImageClassification", {"badBoxes": "Drop"}, ["dataset.cleaning.badBoxes is for ObjectDetection, not Image"]),
        ("ObjectDetection", {"minCharacters": 3}, ["dataset.cleaning: ObjectDetection data has no texts; keep only"]),
    ],
)
def test_rules_for_files_and_boxes_go_with_tasks_that_have_them(
    task: str, cleaning: dict[str, Any], expected: list[str]
) -> None:
    dataset = Dataset.model_validate({"train": {"source": "s3://data/boxes"}, "cleaning": cleaning})
    problems = dataset.problems_with(task)
    assert [problem[: len(start)] for problem, start in zip(problems, expected, strict=True)] == expected
