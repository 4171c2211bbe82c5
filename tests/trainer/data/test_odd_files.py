"""Files as people have them: byte order marks, nulls for what is empty, labels that look alike."""

import json
from pathlib import Path
from typing import Any

import pytest

from finetune_api.dataset import Dataset
from finetune_trainer.data.reading import read_rows
from finetune_trainer.errors import DataError

ROWS = [
    {"text": f"parcel {word}", "label": label}
    for word, label in zip(["one", "two", "three", "four"], "abab", strict=True)
]


@pytest.fixture
def prepare(tiny_bert: Path, tmp_path: Path) -> Any:
    """prepare(content, **dataset) → PreparedData."""
    from finetune_trainer.data.prepare import prepare as run
    from finetune_trainer.tasks.text_classification import TextClassification

    def call(rows: list[dict], **more: Any) -> Any:
        file = tmp_path / "train.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        dataset = Dataset.model_validate({"train": {"source": f"file://{file}"}, **more})
        task = TextClassification(dataset.columns)
        return run(dataset, task, task.load_processor(tiny_bert), 32, tmp_path, lambda uri: Path(uri[7:]))

    return call


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_lines_may_begin_with_a_byte_order_mark_and_end_as_on_windows(ends: str, tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    file.write_bytes(("\ufeff" + ends.join(map(json.dumps, ROWS))).encode())
    assert [row.values for row in read_rows(file, "Auto", "train")] == ROWS


def test_a_text_that_is_null_is_empty(prepare: Any) -> None:
    """As it is in Parquet where it is "" in CSV."""
    rows = [*ROWS, {"text": None, "label": "a"}]
    with pytest.raises(DataError, match=r"line 5: column 'text' is empty; .* dataset\.cleaning\.empty to Drop"):
        prepare(rows)
    data = prepare(rows, cleaning={"empty": "Drop"})
    assert data.report["cleaning"]["train"]["dropped"] == {"empty": 1}
    assert len(data.train) == 4


@pytest.mark.parametrize(
    ("twin", "shown"),
    [("a ", r"'a' and 'a '"), ("\u00a0b", r"'b' and '\\xa0b'|'\\xa0b' and 'b'")],
    ids=["space", "nbsp"],
)
def test_labels_that_differ_in_spaces_alone_are_refused(twin: str, shown: str, prepare: Any) -> None:
    with pytest.raises(DataError, match=rf"the labels ({shown}) differ in spaces or Unicode form alone"):
        prepare([*ROWS, {"text": "five", "label": twin}])


def test_labels_that_differ_in_unicode_form_alone_are_refused(prepare: Any) -> None:
    composed = [{"text": f"five {n}", "label": label} for n, label in enumerate(("caf\u00e9", "cafe\u0301"))]
    with pytest.raises(DataError, match=r"the labels 'cafe\\u0301' and 'caf\\xe9' differ"):
        prepare([*ROWS, *composed])
    assert prepare([*ROWS, composed[0], {"text": "six", "label": "A"}]).labels == ["A", "a", "b", "caf\u00e9"]


def test_a_group_that_is_null_is_called_a_group(prepare: Any) -> None:
    rows = [{**row, "customer": None} for row in ROWS]
    with pytest.raises(DataError, match=r"column 'customer' holds null; a group is a string or an integer"):
        prepare(rows, split={"test": 0.5, "groupBy": "customer"})
