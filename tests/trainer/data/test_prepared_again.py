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


def test_for_longer_completions_other_prompts_are_too_long(prepared: Any) -> None:
    assert len(prepared("answer", 4).train) == 3
    with pytest.raises(DataError, match="maxLength"):
        prepared("answer", 7)
