"""The preflight reads the first rows of data in an object store as it does on a volume, and no more of it."""

import json
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from finetune_storage import open_storage
from finetune_storage.errors import NotFoundError
from finetune_trainer.errors import ConfigurationError, DataError
from finetune_trainer.launch.preflight import preflight
from finetune_trainer.launch.sample import HEAD_BYTES
from trainer.conftest import S3Server
from trainer.jobs import job
from trainer.storage.test_s3_storage import CuttingProxy

ROW = {"text": "the parcel never came", "label": "delivery"}
MEGABYTE_LINES = [json.dumps(ROW | {"note": "x" * 2000}) for _ in range(1500)]
QUOTED = 'text,label\n"one, ""two""\nthree",a\n' + '"' + "y" * HEAD_BYTES + '\n",b\n'


def put(s3: S3Server, name: str, content: bytes | str) -> str:
    open_storage(f"s3://{s3.bucket}").put(content.encode() if isinstance(content, str) else content, name)  # type: ignore[attr-defined]
    return f"s3://{s3.bucket}/{name}"


def parquet(folder: Path, rows: Iterable[dict[str, Any]]) -> bytes:
    file = folder / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), file)
    return file.read_bytes()


def weights(*shapes: list[int]) -> bytes:
    """The beginning of a safetensors file: all that is read of it."""
    header = {f"w{n}": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]} for n, shape in enumerate(shapes)}
    text = json.dumps({"__metadata__": {"format": "pt"}} | header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(4_000_000)


@pytest.fixture
def model(s3: S3Server) -> str:
    put(s3, "model/config.json", "{}")
    put(s3, "model/model-00001-of-00002.safetensors", weights([1000, 1000]))
    put(s3, "model/model-00002-of-00002.safetensors", weights([500, 1000], [500]))
    put(s3, "model/consolidated.safetensors", weights([1000, 1000]))
    return f"s3://{s3.bucket}/model"


def look(tmp_path: Path, model: str, train: str, **dataset: Any) -> str:
    config = job(tmp_path, Path("/x"), Path("/x"), dataset={"train": {"source": train}} | dataset)
    return preflight(config.model_copy(update={"model": config.model.model_copy(update={"source": model})})).message


def test_only_the_beginnings_of_files_are_transferred(
    s3: S3Server, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = put(s3, "data/train.jsonl", "\n".join(MEGABYTE_LINES))
    with CuttingProxy(s3.endpoint, after=2_500_000) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        told = look(tmp_path, model, train)
    assert told == (
        "the model is there, 1.5 million weights; dataset.train is there, its first 20 rows can be read"
    )  # and not those of the other copy of the weights


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a/train.csv", "text,label\nx,a\ny,b\n", "its first 2 rows can be read"),
        ("quoted.csv", QUOTED, "its first 1 rows can be read"),
        ("long.jsonl", json.dumps({"text": "z" * HEAD_BYTES, "label": "a"}), "dataset.train is there"),
        ("images/a/1.png", b"no picture", "dataset.train is there"),
    ],
    ids=["a folder", "a field over lines", "a long row", "a folder of files"],
)
def test_what_can_be_told_of_other_files(
    s3: S3Server, tmp_path: Path, model: str, name: str, content: str, told: str
) -> None:
    put(s3, name, content)
    folder = name.partition("/")[0]
    assert look(tmp_path, model, f"s3://{s3.bucket}/{folder}").endswith(told)


def test_of_parquet_the_columns_are_told_without_its_rows(s3: S3Server, tmp_path: Path, model: str) -> None:
    train = put(s3, "train.parquet", parquet(tmp_path, [ROW] * 3))
    assert look(tmp_path, model, train).endswith("dataset.train is there, its columns can be read")
    with pytest.raises(DataError, match=r"dataset.columns.text: .* has no column 'body'; they have label, text"):
        look(tmp_path, model, train, columns={"text": "body"})


@pytest.mark.parametrize(
    ("name", "content", "columns", "told"),
    [
        ("train.jsonl", '{"text": "a"}\n{"text": ', {}, r"train.jsonl.* line 2"),
        ("train.jsonl", "\n" * 9, {}, "holds no rows"),
        ("train.jsonl", json.dumps(ROW), {"text": "body"}, "none of the first 1 rows .* 'body'; they have label, text"),
        ("train.csv", 'text,label\n"open', {}, "unexpected end of data"),
        ("train.parquet", "PAR1 and no more", {}, "not a readable Parquet file"),
        ("train.xml", "<rows/>", {}, "set dataset.train.format"),
    ],
    ids=["half a row", "no row", "no column", "an open quote", "damaged", "no format"],
)
def test_wrong_rows_are_told_with_the_field(
    s3: S3Server, tmp_path: Path, model: str, name: str, content: str, columns: dict[str, str], told: str
) -> None:
    with pytest.raises(DataError, match=told):
        look(tmp_path, model, put(s3, name, content), columns=columns)


def test_wrong_models_are_told_with_the_field(s3: S3Server, tmp_path: Path) -> None:
    train = put(s3, "train.jsonl", json.dumps(ROW))
    put(s3, "model/config.json", "{}")
    put(s3, "model/model.safetensors", b"\x10\0\0\0\0\0\0\0not json at all!")
    with pytest.raises(ConfigurationError, match=r"model.source: .*model.safetensors is no safetensors file"):
        look(tmp_path, f"s3://{s3.bucket}/model", train)
    with pytest.raises(NotFoundError, match=r"^model.source: .*nowhere"):
        look(tmp_path, f"s3://{s3.bucket}/nowhere", train)
