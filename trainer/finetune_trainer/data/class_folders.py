"""One folder a class: `train/cat/1.jpg` is an example of the class `cat`."""

from collections.abc import Iterator
from pathlib import Path

from finetune_trainer.data.row import Row, Where
from finetune_trainer.errors import DataError

COLUMNS = {
    **dict.fromkeys((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"), "image"),
    **dict.fromkeys((".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif"), "audio"),
}
"""The column that a file is in, by its ending."""
PARTS = frozenset({"train", "training", "val", "valid", "validation", "dev", "test", "testing"})


def media_files(folder: Path) -> list[Path]:
    """Files below the folders of the classes, in the order of their names; what begins with . or _ is left out."""
    return sorted(
        path
        for path in folder.glob("*/**/*")
        if path.suffix.lower() in COLUMNS and not any(p.startswith((".", "_")) for p in path.relative_to(folder).parts)
    )


def read_class_folders(folder: Path, name: str) -> Iterator[Row]:
    """One row a file, with its class as `label`."""
    files = media_files(folder)
    if not files:
        raise DataError(
            f"{name}: no folder of a class with files in it ({', '.join(COLUMNS)}); the layout is CLASS/FILE"
        )
    if (classes := {path.relative_to(folder).parts[0] for path in files}) <= PARTS:
        raise DataError(
            f"{name}: its folders are named {', '.join(sorted(classes))}, which are parts of the data and no "
            "classes; name the folder of each part, such as dataset.train.source: .../train"
        )
    for path in files:
        relative = path.relative_to(folder)
        values = {COLUMNS[path.suffix.lower()]: str(relative), "label": relative.parts[0]}
        yield Row(values, Where(f"{name}/{relative}", 0), folder)
