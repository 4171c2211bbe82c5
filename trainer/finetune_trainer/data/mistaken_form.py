"""Files of another format than the one that they are read as, told by how they begin."""

import codecs
import re
from pathlib import Path

from finetune_api.dataset import DataFormat
from finetune_trainer.errors import DataError

BEGINS = 4096
"""Bytes that tell."""
PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"BZh": "bzip2", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ": "xz"}
OBJECT, LIST_OF_OBJECTS = re.compile(rb'\{\s*"'), re.compile(rb"\[\s*\{")
READ_BY_ROWS: dict[DataFormat, str] = {"Jsonl": ".jsonl", "Json": ".json", "Csv": ".csv", "Parquet": ".parquet"}
"""Formats that are told apart here, and how their files end."""


def check_form(file: Path, form: DataFormat, field: str) -> None:
    """Raises DataError for a file that is certainly not of the form; what cannot be told is left to its reader."""
    if form not in READ_BY_ROWS:
        return
    with file.open("rb") as stream:
        beginning = stream.read(BEGINS)
    for sign, packer in PACKED.items():
        if beginning.startswith(sign):
            raise DataError(f"{field}: {file.name} is compressed ({packer}), and is read as {form}; unpack it")
    found = _form_of(beginning.removeprefix(codecs.BOM_UTF8).lstrip(), form)
    if found not in (None, form):
        raise DataError(
            f"{field}: {file.name} looks like {found}, and is read as {form}; name it {READ_BY_ROWS[found]}, or set "
            f"{field}.format to {found}"
        )


def _form_of(beginning: bytes, read_as: DataFormat) -> DataFormat | None:
    """None where its reader knows better: a JSON object may be one row of many, or what rows lie in."""
    if beginning.startswith(b"PAR1"):
        return "Parquet"
    if OBJECT.match(beginning):
        return None if read_as == "Json" else "Jsonl"
    if LIST_OF_OBJECTS.match(beginning):
        return "Json"
    first, *more = beginning.splitlines() or [b""]
    return "Csv" if more and b"," in first and not first.startswith((b"{", b"[")) else None
