"""Where the answer is, and what becomes of one that is cut off."""

from pathlib import Path
from typing import Any

import pytest

from finetune_api.dataset import Columns
from finetune_trainer.data.reading import Row, Where
from finetune_trainer.errors import DataError
from finetune_trainer.tasks.question_answering import QuestionAnswering

TASK = QuestionAnswering(Columns())
HERE = Where("d.jsonl", 2)
CONTEXT = "one two three four five six"


def row(**changes: Any) -> Row:
    answers = {"text": ["three four", "four"], "answer_start": [8, 14]}
    return Row({"question": "what", "context": CONTEXT, "answers": answers, **changes}, HERE)


def test_the_first_answer_is_learnt_where_it_stands(tiny_bert: Path) -> None:
    tokenizer = TASK.load_processor(tiny_bert)
    [features] = TASK.encode([TASK.read(row())], tokenizer, [])
    first, last = features.columns["span"]
    ids = list(features.columns["input_ids"])
    assert tokenizer.convert_ids_to_tokens(ids[first : last + 1]) == ["three", "four"]
    assert sum(features.columns["within"]) == 6
    assert features.targets == 1


def test_an_answer_that_is_cut_off_leaves_nothing_to_learn(tiny_bert: Path) -> None:
    tokenizer = TASK.load_processor(tiny_bert)
    example = TASK.read(row())
    [whole] = TASK.encode([example], tokenizer, [])
    kept = TASK.truncate(example, whole, tokenizer, [], whole.length - 2)
    lost = TASK.truncate(example, whole, tokenizer, [], whole.length - 3)
    assert (kept.targets, lost.targets) == (1, 0)
    question_alone = TASK.truncate(example, whole, tokenizer, [], 1)
    assert (question_alone.length, question_alone.targets, list(question_alone.columns["within"])) == (1, 0, [False])


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (["three"], r"must be \{text"),
        ({"text": ["a"], "answer_start": []}, "of equal lengths"),
        ({"text": [], "answer_start": []}, "has no answer"),
        ({"text": ["three"], "answer_start": ["8"]}, "an answer is a text and a number"),
        ({"text": ["three"], "answer_start": [9]}, "'three' begins at character 9, where the context has 'hree '"),
    ],
)
def test_a_wrong_answer_is_named(answers: Any, expected: str) -> None:
    with pytest.raises(DataError, match=rf"d\.jsonl line 2: .*{expected}"):
        TASK.read(row(answers=answers))
