"""Files that rows name, images among them: looked at once, where the row is known, and read again for each batch."""

import hashlib
from io import BytesIO
from pathlib import Path

from PIL import Image

from finetune_serving.pictures import as_seen
from finetune_trainer.data.examples import BadFileError, text_column
from finetune_trainer.data.reading import Row


def media_column(row: Row, name: str, field: str) -> Path:
    """The file that a column names, relative to the file of the row. Raises BadFileError when it is not there."""
    named = text_column(row, name, field)
    path = row.folder / named
    if not path.is_file():
        raise BadFileError(
            f"{row.where}: {name} {named!r} is not in {row.folder}; give the folder that holds both as the source, "
            "and paths relative to the file that names them; dataset.cleaning.badFiles: Drop leaves such rows out"
        )
    return path


def checked_image(path: Path, row: Row) -> tuple[str, tuple[int, int]]:
    """sha256 of a readable image, equal for copies under other names; its width and height as it is seen.

    Raises:
        BadFileError: It cannot be read; names the row.
    """
    content = path.read_bytes()
    try:
        with Image.open(BytesIO(content)) as image:
            size = as_seen(image).size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadFileError(
            f"{row.where}: {path.name} is not a readable image ({error}); replace or remove it, or set "
            "dataset.cleaning.badFiles to Drop"
        ) from None
    return hashlib.sha256(content).hexdigest(), size


def read_image(path: str) -> Image.Image:
    """As `as_seen`."""
    with Image.open(path) as image:
        return as_seen(image)
