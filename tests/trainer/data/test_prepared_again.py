"""What was prepared for one job is taken for the next only where that would prepare the same."""

from pathlib import Path
from typing import Any

import pytest

from finetune_api.dataset import Dataset
from finetune_api.reinforcement import Reinforcement
from finetune_trainer.data.prepare import PreparedData, prepare
from finetune_trainer.errors import DataError
from finetune_trainer.tasks.reinforcement_learning import ReinforcementLearning, row_of
from trainer.jobs import write_jsonl

ROWS = [{"prompt": f"question {n}", "answer": "two", "other": "three"} for n in ("one", "two", "three")]


@pytest.fixture
def prepared(tiny_llama: Path, tmp_path: Path) -> Any:
    """prepared(column, tokens) → PreparedData, for rewards that read the column; always in the same folder."""
    data = write_jsonl(tmp_path / "train.jsonl", ROWS)

    def call(column: str, tokens: int) -> PreparedData:
        dataset = Dataset.model_validate({"train": {"source": f"file://{data}"}, "maxLength": 8, "overLength": "Drop"})
        rewards = {"rewards": [{"exactMatch": {"column": column}}], "maxNewTokens": tokens}
        task = ReinforcementLearning(dataset.columns, Reinforcement.model_validate(rewards))
        tokenizer = task.load_processor(tiny_llama)
        return prepare(dataset, task, tokenizer, dataset.max_length, tmp_path, lambda uri: Path(uri[7:]))

    return call


def test_for_other_columns_of_rewards_data_are_prepared_anew(prepared: Any) -> None:
    assert row_of(prepared("answer", 4).train, 0)["columns"] == {"answer": "two"}
    assert row_of(prepared("other", 4).train, 0)["columns"] == {"other": "three"}


def test_for_another_end_to_cut_at_texts_are_cut_anew(tiny_bert: Path, tmp_path: Path) -> None:
    from finetune_trainer.tasks.text_classification import TextClassification

    rows = [{"text": "one two three four five six seven eight", "label": n} for n in range(2)]
    source = {"source": f"file://{write_jsonl(tmp_path / 'train.jsonl', rows)}"}
    dataset = Dataset.model_validate({"train": source, "maxLength": 8, "overLength": "Truncate"})
    task = TextClassification(dataset.columns)
    tokenizer = task.load_processor(tiny_bert)
    cut = {}
    for side in ("right", "left"):
        tokenizer.truncation_side = side
        data = prepare(dataset, task, tokenizer, 8, tmp_path, lambda uri: Path(uri[7:]))
        cut[side] = tokenizer.decode(data.train["input_ids"][0], skip_special_tokens=True)
    assert cut == {"right": "one two three four five six", "left": "three four five six seven eight"}


def test_a_file_in_another_class_folder_is_other_data(tmp_path: Path) -> None:
    from finetune_trainer.data.fingerprint import fingerprint

    for name in ("cat/1.png", "cat/2.png", "dog/3.png"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(name)
    before = fingerprint({"train": (tmp_path, "ClassFolders")})
    (tmp_path / "cat/2.png").rename(tmp_path / "dog/2.png")
    assert fingerprint({"train": (tmp_path, "ClassFolders")}) != before


def test_for_longer_completions_other_prompts_are_too_long(prepared: Any) -> None:
    assert len(prepared("answer", 4).train) == 3
    with pytest.raises(DataError, match="maxLength"):
        prepared("answer", 7)
