"""Files that rows name, images among them: looked at once, where the row is known, and read again for each batch."""

import hashlib
from io import BytesIO
from pathlib import Path

from PIL import Image

from finetune_trainer.data.examples import text_column
from finetune_trainer.data.reading import Row
from finetune_trainer.errors import DataError


def media_column(row: Row, name: str, field: str) -> Path:
    """The file that a column names, relative to the file of the row. Raises DataError when it is not there."""
    named = text_column(row, name, field)
    path = row.folder / named
    if not path.is_file():
        raise DataError(
            f"{row.where}: {name} {named!r} is not in {row.folder}; give the folder that holds both as the source, "
            "and paths relative to the file that names them"
        )
    return path


def checked_image(path: Path, row: Row) -> str:
    """sha256 of a readable image: equal for copies under other names. Raises DataError naming the row."""
    content = path.read_bytes()
    try:
        with Image.open(BytesIO(content)) as image:
            image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{row.where}: {path.name} is not a readable image ({error}); replace or remove it") from None
    return hashlib.sha256(content).hexdigest()


def read_image(path: str) -> Image.Image:
    """Three colours, whatever the file has."""
    with Image.open(path) as image:
        return image.convert("RGB")
