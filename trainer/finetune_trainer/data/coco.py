"""COCO's annotations of objects on images (https://cocodataset.org/#format-data): one row an image."""

import mmap
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from finetune_trainer.data.row import Row, Where
from finetune_trainer.errors import DataError

Record = dict[str, Any]
KEYS = ("images", "annotations", "categories")
TRIED = 50
"""Images that are looked for in each folder where they may lie."""


def annotation_files(folder: Path) -> list[Path]:
    """Files that look like COCO's, in the folder itself and in `annotations`."""
    found = [*folder.glob("*.json"), *folder.glob("annotations/*.json")]
    return sorted(file for file in found if not file.name.startswith(".") and has_annotations(file))


def annotation_file(folder: Path, field: str) -> Path:
    """The only one. Raises DataError when there is none, or more."""
    files = annotation_files(folder)
    if not files:
        raise DataError(
            f"{field}: no .json file with {', '.join(KEYS)} in the folder {folder} or its folder annotations"
        )
    if len(files) > 1:
        names = ", ".join(str(file.relative_to(folder)) for file in files)
        raise DataError(
            f"{field}: the folder has several files of annotations ({names}); name one in {field}.annotations"
        )
    return files[0]


def has_annotations(file: Path) -> bool:
    """Whether the file names what COCO's annotations are made of."""
    if not file.stat().st_size:
        return False
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return all(content.find(f'"{key}"'.encode()) >= 0 for key in KEYS)


def read_coco(file: Path, name: str) -> Iterator[Row]:
    """Rows with the image's own fields, `image` (its path) and `objects`, each {bbox, category, iscrowd, where}.

    Raises:
        DataError: An annotation names an image or a category that is not there, or a field is missing.
    """
    content = _parsed(file, name)
    categories = {
        key: _field(record, "name", name, "category")
        for key, record in _by_id(content["categories"], "category", "categories", name).items()
    }
    images = _by_id(content["images"], "image", "images", name)
    objects: dict[Any, list[Record]] = defaultdict(list)
    for annotation in content["annotations"]:
        where = f"{name} annotation {annotation.get('id', 'without id')}"
        image, category = (_field(annotation, key, name, "annotation") for key in ("image_id", "category_id"))
        if image not in images:
            raise DataError(f"{where}: there is no image with the id {image!r}; remove it, or add the image")
        if category not in categories:
            raise DataError(
                f"{where}: there is no category with the id {category!r}; there are: "
                f"{', '.join(map(str, list(categories)[:20]))}"
            )
        found = {"bbox": _field(annotation, "bbox", name, "annotation"), "category": str(categories[category])}
        objects[image].append({**found, "iscrowd": annotation.get("iscrowd", 0), "where": where})
    folder = images_folder(file, [_field(record, "file_name", name, "image") for record in images.values()])
    for key, record in images.items():
        place = Where(f"{name} image {key} ({record['file_name']})", 0)
        yield Row({**record, "image": record["file_name"], "objects": objects[key]}, place, folder)


def _parsed(file: Path, name: str) -> dict[str, list[Record]]:
    try:
        content = orjson.loads(file.read_bytes())
    except orjson.JSONDecodeError as error:
        raise DataError(f"{name}: not valid JSON ({error}); the file may be half-written") from None
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in KEYS):
        raise DataError(f"{name}: not COCO's format, which is an object with the lists {', '.join(KEYS)}")
    return content


def _by_id(records: list[Record], kind: str, kinds: str, name: str) -> dict[Any, Record]:
    found: dict[Any, Record] = {}
    for record in records:
        key = _field(record, "id", name, kind)
        if key in found:
            raise DataError(f"{name}: two {kinds} have the id {key!r}; give each its own")
        found[key] = record
    return found


def _field(record: Record, key: str, name: str, kind: str) -> Any:
    if not isinstance(record, dict) or key not in record:
        shown = record.get("id", "without id") if isinstance(record, dict) else record
        raise DataError(f"{name} {kind} {shown}: no {key!r}")
    return record[key]


def images_folder(file: Path, names: list[str]) -> Path:
    """What the images' names are relative to.

    The first of these that has one of the images: the folder of the file, or the folder that `annotations` is in;
    there `images`, or what the file's own name says (`instances_train2017.json`: `train2017`).
    """
    root = file.parent.parent if file.parent.name == "annotations" else file.parent
    stem = file.stem.rpartition("_")[2]
    places = [file.parent, root, *(base / name for base in (root, root / "images") for name in ("images", stem))]
    tried = names[:TRIED]
    return next((place for place in places if any((place / name).is_file() for name in tried)), root)
