"""The data of several subtasks is prepared as that of several jobs, and reported as one."""

from pathlib import Path
from typing import Any

import pytest

from finetune_api.dataset import Columns, Dataset
from finetune_trainer.data.joined import Joined
from finetune_trainer.data.prepare import PreparedData
from finetune_trainer.data.report import reported_data, summary
from finetune_trainer.data.subtasks import mixture_of, prepare_subtasks
from finetune_trainer.errors import DataError
from finetune_trainer.tasks.text_classification import TextClassification
from finetune_trainer.tasks.token_classification import TokenClassification
from trainer import tiny_models
from trainer.jobs import write_jsonl

SPLIT = {"test": 0.25, "seed": 1}
TASKS = {"intent": TextClassification(Columns(label="queue")), "entities": TokenClassification(Columns())}
INTENT = [{"text": f"refund {'one two three four'[: 4 * n]}", "queue": ["a", "b"][n % 2]} for n in range(1, 5)]
ENTITIES = [
    {"tokens": ["where", "is", *"abcdefgh"[:n], "parcel"], "tags": ["O", "O", *"O" * n, "B-THING"]} for n in range(8)
]


def dataset(root: Path, changes: dict[str, Any] | None = None, **more: Any) -> Dataset:
    intent = write_jsonl(root / "intent" / "train.jsonl", [*INTENT, {"text": " ", "queue": "a"}])
    entities = write_jsonl(root / "entities" / "train.jsonl", ENTITIES)
    classify = {"name": "intent", "task": "TextClassification", "train": {"source": f"file://{intent}"}, "split": SPLIT}
    classify |= {"columns": {"label": "queue"}, "cleaning": {"empty": "Drop"}, **(changes or {})}
    tag = {"name": "entities", "task": "TokenClassification", "train": {"source": f"file://{entities}"}, "split": SPLIT}
    return Dataset.model_validate({"subtasks": [classify, tag], "maxLength": 32, **more})


def prepared(root: Path, changes: dict[str, Any] | None = None, **more: Any) -> PreparedData:
    def fetch(uri: str) -> Path:
        return Path(uri.removeprefix("file://"))

    found = dataset(root, changes, **more)
    return prepare_subtasks(
        found, TASKS, tiny_models.encoder_tokenizer(), found.max_length or 0, root / "scratch", fetch
    )


def test_each_is_cleaned_split_and_labelled_on_its_own(tmp_path: Path) -> None:
    data = prepared(tmp_path)
    assert isinstance(data.train, Joined)
    assert {name: len(part) for name, part in data.train.parts.items()} == {"intent": 3, "entities": 6}
    assert data.held_out is not None
    assert len(data.held_out[1]) == 3
    assert data.labels == ["intent/a", "intent/b", "entities/O", "entities/B-THING", "entities/I-THING"]
    assert data.report["subtasks"]["intent"]["labels"] == ["a", "b"]


def test_the_report_has_the_sums_and_what_each_lost(tmp_path: Path) -> None:
    report = prepared(tmp_path).report
    assert reported_data(report) == {
        "train": 9,
        "validation": 0,
        "test": 3,
        "truncated": 0,
        "split": 0,
        "unscored": 0,
        "redacted": 0,
        "dropped": {"empty": 1},
    }
    assert report["cleaning"]["intent train"]["dropped"] == {"empty": 1}
    lines = summary(report)
    assert "intent: cleaning train: 5 rows read; 1 dropped (empty)" in lines
    assert any(line.startswith("entities: data train: 6 of 6 examples") for line in lines)


def test_held_out_data_are_told_over_all_subtasks(tmp_path: Path) -> None:
    def told(seed: int, folder: str) -> str:
        data = prepared(tmp_path / folder, {"split": {**SPLIT, "seed": seed}})
        return str(data.report["heldOut"]["test"])

    assert told(1, "one") == told(1, "again")
    assert len({told(seed, f"seed-{seed}") for seed in range(4)}) > 1


def test_an_error_names_the_subtask_and_the_field_as_the_job_has_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^subtask intent: dataset\.subtasks\[0\]\.split\.stratifyBy: every value"):
        prepared(tmp_path, {"split": {"validation": 0.2, "test": 0.2, "stratifyBy": "queue"}})


def test_an_error_of_a_shared_field_names_it_where_it_stands(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"^subtask entities: dataset\.subtasks\[1\]\.train: train.jsonl line \d+: 9 tokens, but dataset.maxLe",
    ):
        prepared(tmp_path, maxLength=8)


def test_an_example_counts_once_whatever_its_task_counts(tmp_path: Path) -> None:
    train = prepared(tmp_path).train
    assert isinstance(train, Joined)
    assert train.targets.tolist() == [1] * 9
    words = train.parts["entities"].targets
    assert train.targets_per_example == {"intent": 1.0, "entities": words.mean()}
    assert words.mean() > 3


def test_examples_are_found_again_by_their_place(tmp_path: Path) -> None:
    train = prepared(tmp_path).train
    assert isinstance(train, Joined)
    found = train.of_each([4, 0, 8, 2])
    assert [(places.tolist(), own.tolist()) for places, own in found.values()] == [([1, 3], [0, 2]), ([0, 2], [1, 5])]
    shortest = train.shortest(1)
    assert len(shortest) == 2
    assert shortest[0] < 3 <= shortest[1]


def test_weights_come_before_sizes(tmp_path: Path) -> None:
    data = prepared(tmp_path)
    assert isinstance(data.train, Joined)
    assert mixture_of(dataset(tmp_path), data.train, 4, 0).shares == pytest.approx([1 / 3, 2 / 3])
    hot = mixture_of(dataset(tmp_path, mixingTemperature=2), data.train, 4, 0)
    assert hot.shares[1] / hot.shares[0] == pytest.approx(2**0.5)
    weighted = dataset(tmp_path, {"weight": 3}).model_copy()
    assert weighted.subtasks is not None
    weighted.subtasks[1].weight = 1
    assert mixture_of(weighted, data.train, 4, 0).shares == [0.75, 0.25]
