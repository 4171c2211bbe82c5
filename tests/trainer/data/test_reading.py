"""Every error in the data names the file and the line."""

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from finetune_trainer.data import json_array
from finetune_trainer.data.reading import read_rows
from finetune_trainer.errors import DataError


def read(path: Path, data_format: str = "Auto") -> list[dict]:
    return [row.values for row in read_rows(path, data_format, "dataset.train")]


def test_the_three_formats_give_the_same_rows(tmp_path: Path) -> None:
    rows = [{"text": "a, b", "label": "x"}, {"text": 'say "hi"\nthere', "label": "y"}]
    (tmp_path / "d.jsonl").write_text(
        '{"text": "a, b", "label": "x"}\n\n{"text": "say \\"hi\\"\\nthere", "label": "y"}'
    )
    (tmp_path / "d.csv").write_text('\ufefftext,label\n"a, b",x\n"say ""hi""\nthere",y\n', encoding="utf-8")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "d.parquet")
    for name in ("d.jsonl", "d.csv", "d.parquet"):
        assert read(tmp_path / name) == rows, name


def test_a_json_file_is_a_list_of_rows_or_has_one_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alpaca and ShareGPT are published as the one, and many write the other under the same ending."""
    monkeypatch.setattr(json_array, "PIECE", 7)  # so that values lie across pieces
    rows = [{"text": "ä [1]", "n": 12345, "in": [True, None, -1.5e-3]}, {"text": "b", "n": 0, "in": []}]
    for number, text in enumerate(
        (
            json.dumps(rows),
            f"\ufeff\n {json.dumps(rows, indent=1, ensure_ascii=False)}\n\n",
            "\n".join(map(json.dumps, rows)),
        )
    ):
        file = tmp_path / f"{number}.json"
        file.write_text(text, encoding="utf-8")
        assert read(file) == rows
    for file in list(tmp_path.glob("[12].json")):
        file.unlink()
    with pytest.raises(DataError, match=r"no \.jsonl"):  # in a folder it may be anything
        read(tmp_path)
    assert read(tmp_path, "Json") == rows


def test_an_object_of_a_list_knows_its_line(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text('[\n  {"text":\n "a"},\n  {"text": "b"}\n]')
    assert [row.where.line for row in read_rows(tmp_path / "d.json", "Auto", "train")] == [2, 4]


def test_a_folder_is_read_in_the_order_of_the_names(tmp_path: Path) -> None:
    for name in ("b", "a", "sub/c"):
        file = tmp_path / f"{name}.jsonl"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f'{{"text": "{name}"}}\n')
    (tmp_path / ".hidden.jsonl").write_text("not json")
    (tmp_path / "README.md").write_text("about the data")
    assert [row["text"] for row in read(tmp_path)] == ["a", "b", "sub/c"]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("d.jsonl", b'{"text": "a"}\n{"text": "b', r"d\.jsonl line 2: not valid JSON .*half-written"),
        (
            "d.jsonl",
            b'{"text": "a"}\n{"text" "b"}\n{"text": "c"}\n',
            r"d\.jsonl line 2: not valid JSON \(.*, at character 9 of the line\)$",
        ),
        ("d.jsonl", b'{"text": "a"}\n["b"]\n', r"d\.jsonl line 2: a list where a JSON object"),
        ("d.jsonl", b'{"text": "\xff"}\n', r"d\.jsonl line 1: not UTF-8 at byte 11 of the line; save"),
        ("d.csv", b"text,label\na,x\nb\n", r"d\.csv line 3: 1 values, but the header has 2 columns"),
        ("d.csv", b'text,label\n"a,x\n', r"d\.csv line 2: not valid CSV .*half-written"),
        ("d.csv", b"text,label\na\xff,x\n", r"d\.csv line 2: not UTF-8"),
        ("d.csv", b"text,text\na,x\n", r"d\.csv line 1: the header names 'text' twice"),
        ("d.json", b'[{"text": "a"},\n {"text" "b"}]', r"d\.json line 2: not valid JSON \(.*, at character 10\)$"),
        (
            "d.json",
            b'[{"text": "a"},\n {"text": "b',
            r"d\.json line 2: not valid JSON \(.*; the file may be half-written",
        ),
        (
            "d.json",
            b'[{"text": "a"}\n {"text": "b"}]',
            r"d\.json line 2: '\{' after an object, where a comma or \] bel",
        ),
        ("d.json", b'[{"text": "a"}\n', r"d\.json line 2: 'the end' after an object"),
        ("d.json", b'[{"text": "a"},\n "b"]', r"d\.json line 2: '\"' where a JSON object like"),
        ("d.json", b'[{"text": "\xff"}]', r"d\.json line 1 or below: not UTF-8 .*; save the file as UTF-8"),
        ("d.json", b'[{"text": "a"}]\n[{"text": "b"}]', r"d\.json line 2: '\[' after the end of the list; put all obj"),
        ("d.json", b'[{},\n{"text": "\\ud83d"}]', r"d\.json line 2: not usable as text \(.*surrogates"),
        ("d.parquet", b"PAR1 half of a file", r"d\.parquet: not a readable Parquet file"),
        (
            "d.jsonl",
            b"text,label\na,x\n",
            r"^dataset\.train: d\.jsonl looks like Csv, and is read as Jsonl; name it \.csv",
        ),
        ("d.jsonl", b'\n[\n{"text": "a"}]', r"looks like Json, .* or set dataset\.train\.format to Json$"),
        ("d.csv", b'{"text": "a", "label": "b"}\n', r"d\.csv looks like Jsonl, and is read as Csv"),
        ("d.csv", b"PAR1 of a file", r"d\.csv looks like Parquet, and is read as Csv"),
        ("d.parquet", b'{"text": "a"}\n', r"d\.parquet looks like Jsonl"),
        ("d.jsonl", b"\x1f\x8b\x08\x00", r"d\.jsonl is compressed \(gzip\), and is read as Jsonl; unpack it"),
        ("d.jsonl.gz", b"\x1f\x8b\x08\x00", r"^dataset\.train: d\.jsonl\.gz is compressed; unpack it$"),
        ("d.txt", b"a\n", r"d\.txt ends in \.txt, .*set dataset\.train\.format"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(name: str, content: bytes, expected: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=expected) as caught:
        read(tmp_path / name)
    assert caught.value.exit_code == 3


def test_a_place_without_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.jsonl does not exist"):
        read(tmp_path / "gone.jsonl")
    (tmp_path / "d.jsonl.gz").touch()
    with pytest.raises(DataError, match=r"no \.jsonl.* file in the folder .*; d\.jsonl\.gz is compressed: unpack it$"):
        read(tmp_path)


def test_a_folder_of_several_formats_must_say_which(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "b.csv").write_text("text\nb\n")
    with pytest.raises(DataError, match=r"Csv, Jsonl.*set dataset\.train\.format"):
        read(tmp_path)
    assert read(tmp_path, "Csv") == [{"text": "b"}]
