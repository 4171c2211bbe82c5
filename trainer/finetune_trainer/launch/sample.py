"""The first rows of data, wherever it is: of S3 and the Hub only the beginning of one file is transferred."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import pyarrow
import pyarrow.parquet

from finetune_api.dataset import DataFile, DataFormat
from finetune_storage import Storage
from finetune_storage.errors import UnavailableError
from finetune_storage.local import LocalStorage
from finetune_storage.location import Entry
from finetune_trainer.data.mistaken_form import check_form
from finetune_trainer.data.reading import ENDINGS, READERS, format_of, read_rows, rows_of
from finetune_trainer.errors import DataError

SAMPLE_ROWS = 20
HEAD_BYTES = 2**20
"""Of a file that is not on a volume."""


@dataclass(frozen=True)
class Sample:
    """What the first rows show."""

    columns: frozenset[str]
    rows: int
    """So many were read; 0 where the file tells its columns without."""

    @classmethod
    def of(cls, rows: Sequence[dict[str, object]]) -> "Sample":
        return cls(frozenset(column for row in rows for column in row), len(rows))


def sample(field: str, part: DataFile, storage: Storage, files: Sequence[Entry]) -> Sample | None:
    """Of what `field` of the job names; None where telling would be a download: of a folder of images, say.

    Raises DataError for rows that cannot be read, UnavailableError when the place stops answering.
    """
    if isinstance(storage, LocalStorage):
        rows = read_rows(rows_of(part, storage.path(), field), part.format, field)
        return Sample.of([row.values for row in islice(rows, SAMPLE_ROWS)])
    chosen = _first_file(field, part, files)
    if chosen is None:
        return None
    entry, form = chosen
    try:
        return _columns(storage, entry, field) if form == "Parquet" else _head(storage, entry, form, field)
    except OSError as error:
        raise UnavailableError(f"{part.source}: {entry.path} cannot be read now: {error}") from error


def _first_file(field: str, part: DataFile, files: Sequence[Entry]) -> tuple[Entry, DataFormat] | None:
    """In the order in which the workers read them."""
    if len(files) == 1 and part.source.endswith(f"/{files[0].path}"):
        form = format_of(Path(files[0].path), part.format, field)
        return (files[0], form) if form in ENDINGS.values() else None
    for entry in sorted(files, key=lambda one: one.path):
        ending = PurePosixPath(entry.path).suffix.lower()
        if ending in ENDINGS and part.format in ("Auto", ENDINGS[ending]) and not _hidden(entry.path):
            return entry, ENDINGS[ending]
    return None


def _hidden(path: str) -> bool:
    return any(part.startswith((".", "_")) for part in PurePosixPath(path).parts)


def _columns(storage: Storage, entry: Entry, field: str) -> Sample:
    """From the footer; a row group, the least that rows come in, may be gigabytes."""
    with storage.open(entry.path) as file:
        try:
            schema = pyarrow.parquet.ParquetFile(file).schema_arrow
        except pyarrow.ArrowInvalid as error:
            raise DataError(
                f"{field}: {entry.path}: not a readable Parquet file ({error}); it may be damaged"
            ) from error
    return Sample(frozenset(schema.names), 0)


def _head(storage: Storage, entry: Entry, form: DataFormat, field: str) -> Sample | None:
    with storage.open(entry.path) as file:
        head = file.read(HEAD_BYTES)
    cut = entry.size > len(head)
    if cut:
        head = head[: head.rfind(b"\n") + 1]
    with TemporaryDirectory() as folder:
        place = Path(folder) / PurePosixPath(entry.path).name
        place.write_bytes(head)
        check_form(place, form, field)
        rows = _first_rows(place, form, f"{field}: {entry.path}", cut)
    return Sample.of(rows) if rows or not cut else None  # None: a row is longer than what was read


def _first_rows(file: Path, form: DataFormat, name: str, cut: bool) -> list[dict[str, object]]:
    rows = []
    try:
        for row in islice(READERS[form](file, name), SAMPLE_ROWS):
            rows.append(row.values)
    except DataError as error:
        # A quoted field of CSV goes over lines: it may be what was cut.
        if not (cut and "unexpected end of data" in str(error)):
            raise
    return rows
