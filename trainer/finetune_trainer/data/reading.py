"""Reads jsonl, json, csv and parquet row by row; every error names the file and the line."""

import codecs
import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow
import pyarrow.parquet

from finetune_api.dataset import DataFile, DataFormat
from finetune_trainer.data.class_folders import media_files, read_class_folders
from finetune_trainer.data.coco import annotation_file, annotation_files, has_annotations, read_coco
from finetune_trainer.data.json_array import read_json
from finetune_trainer.data.mistaken_form import check_form
from finetune_trainer.data.row import Row, Where
from finetune_trainer.errors import DataError

ENDINGS: dict[str, DataFormat] = {
    ".jsonl": "Jsonl",
    ".ndjson": "Jsonl",
    ".csv": "Csv",
    ".parquet": "Parquet",
}
NAMED_ENDINGS: dict[str, DataFormat] = {**ENDINGS, ".json": "Json"}
"""With what is read of a folder only where the job names the format: there a .json file may be anything."""
PACKED_ENDINGS = frozenset({".gz", ".zip", ".bz2", ".zst", ".xz", ".tgz", ".tar"})
STARTS = 4096
"""Bytes within which a JSON file begins."""
LONGEST_CSV_FIELD = 1 << 30
"""Python's own limit of 128 KiB is shorter than a long document."""


def rows_of(file: DataFile, folder: Path, field: str) -> Path:
    """What `read_rows` is to read of a source that lies in `folder`; `field` of the job names it."""
    if file.annotations is None:
        return folder
    if not (folder / file.annotations).is_file():
        raise DataError(f"{field}.annotations: {file.annotations} is not in {file.source}; correct it")
    return folder / file.annotations


def read_rows(path: Path, data_format: DataFormat, field: str) -> Iterator[Row]:
    """All rows of a file or folder, files in the order of their names. `field` of the job names the source: what is
    said of a row begins with it, since several sources may have files of one name."""
    for file, form in data_files(path, data_format, field):
        name = file.relative_to(path.parent if file == path else path)
        check_form(file, form, field)
        yield from READERS[form](file, f"{field}: {name}")


def data_files(path: Path, data_format: DataFormat, field: str) -> list[tuple[Path, DataFormat]]:
    """The files to read with the format of each."""
    if not path.exists():
        raise DataError(f"{field}: {path} does not exist; correct {field}.source")
    if data_format == "ClassFolders":
        if not path.is_dir():
            raise DataError(f"{field}: {path.name} is a file; ClassFolders is for a folder with one folder a class")
        return [(path, "ClassFolders")]
    if data_format == "Coco" and path.is_dir():
        return [(annotation_file(path, field), "Coco")]
    if path.is_file():
        return [(path, format_of(path, data_format, field))]
    wanted = list(ENDINGS) if data_format == "Auto" else [e for e, form in NAMED_ENDINGS.items() if form == data_format]
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in wanted and not _hidden(p, path))
    if not files and data_format == "Auto" and annotation_files(path):
        return [(annotation_file(path, field), "Coco")]
    if not files and data_format == "Auto" and media_files(path):
        return [(path, "ClassFolders")]
    if not files:
        packed = next((p for p in sorted(path.rglob("*")) if p.suffix.lower() in PACKED_ENDINGS), None)
        more = f"; {packed.name} is compressed: unpack it" if packed else ""
        raise DataError(f"{field}: no {' or '.join(wanted)} file in the folder {path}{more}")
    formats = {NAMED_ENDINGS[p.suffix.lower()] for p in files}
    if len(formats) > 1:
        raise DataError(
            f"{field}: the folder holds files of several formats ({', '.join(sorted(formats))}); "
            f"set {field}.format to the one to read"
        )
    return [(p, NAMED_ENDINGS[p.suffix.lower()]) for p in files]


def format_of(file: Path, data_format: DataFormat, field: str) -> DataFormat:
    """The format asked for, or the one that the file's ending says."""
    if data_format != "Auto":
        return data_format
    if (ending := file.suffix.lower()) == ".json":
        return _form_of_json(file)
    if ending in PACKED_ENDINGS:
        raise DataError(f"{field}: {file.name} is compressed; unpack it")
    if ending not in ENDINGS:
        raise DataError(
            f"{field}: {file.name} ends in {file.suffix or 'nothing'}, which says no format; "
            f"set {field}.format to Jsonl, Json, Csv, Parquet or Coco"
        )
    return ENDINGS[ending]


def _form_of_json(file: Path) -> DataFormat:
    """A list of rows, annotations of images, or rows one a line, as some tools write under this ending too."""
    with file.open("rb") as stream:
        first = stream.read(STARTS).removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    if first == b"[":
        return "Json"
    return "Coco" if has_annotations(file) else "Jsonl"


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.relative_to(root).parts)


def read_jsonl(file: Path, name: str) -> Iterator[Row]:
    """One JSON object a line; empty lines are passed over."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if not line.strip():
                continue
            where = Where(name, number)
            values = _parse_json(line, where)
            if not isinstance(values, dict):
                raise DataError(f"{where}: a {type(values).__name__} where a JSON object like {{...}} belongs")
            yield Row(values, where, file.parent)


def _parse_json(line: bytes, where: Where) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise DataError(f"{where}: {_json_problem(line, error)}") from None


def _json_problem(line: bytes, error: orjson.JSONDecodeError) -> str:
    """orjson counts lines in what it was given, which is one line of the file."""
    try:
        line.decode()
    except UnicodeDecodeError as wrong:
        return f"not UTF-8 at byte {wrong.start + 1} of the line; save the file as UTF-8"
    half = "" if line.endswith(b"\n") else "; the line has no end: the file may be half-written"
    return f"not valid JSON ({error.msg}, at character {min(error.pos, len(line.rstrip())) + 1} of the line){half}"


def read_csv(file: Path, name: str) -> Iterator[Row]:
    """RFC 4180 with a header line, UTF-8."""
    csv.field_size_limit(LONGEST_CSV_FIELD)
    with file.open("rb") as raw:
        reader = csv.reader(_decoded(raw, name), strict=True)
        header = _next_record(reader, name)
        if header is None:
            return
        _check_header(header, name)
        while (record := _next_record(reader, name)) is not None:
            if not record:
                continue
            where = Where(name, reader.line_num)
            if len(record) != len(header):
                raise DataError(f"{where}: {len(record)} values, but the header has {len(header)} columns")
            yield Row(dict(zip(header, record, strict=True)), where, file.parent)


def _decoded(raw: Any, name: str) -> Iterator[str]:
    for number, line in enumerate(raw, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{Where(name, number)}: not UTF-8 ({error.reason})") from None


def _next_record(reader: Any, name: str) -> list[str] | None:
    try:
        return next(reader, None)
    except csv.Error as error:
        raise DataError(
            f"{Where(name, reader.line_num)}: not valid CSV ({error}); the file may be half-written"
        ) from None


def _check_header(header: list[str], name: str) -> None:
    twice = sorted({column for column in header if header.count(column) > 1})
    if twice:
        raise DataError(f"{Where(name, 1)}: the header names {', '.join(map(repr, twice))} twice")


def read_parquet(file: Path, name: str) -> Iterator[Row]:
    """Row by row, a batch in memory at a time."""
    number = 0
    try:
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=4096):
            for values in batch.to_pylist():
                number += 1
                yield Row(values, Where(name, number, "row"), file.parent)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{name}: not a readable Parquet file ({error}); it may be half-written or damaged") from None


READERS: dict[DataFormat, Callable[[Path, str], Iterator[Row]]] = {
    "ClassFolders": read_class_folders,
    "Coco": read_coco,
    "Jsonl": read_jsonl,
    "Json": read_json,
    "Csv": read_csv,
    "Parquet": read_parquet,
}

__all__ = ["Row", "Where", "data_files", "read_rows"]
