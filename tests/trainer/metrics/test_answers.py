"""Exact match and F1 as SQuAD counts them."""

import pytest
import torch

from finetune_serving.answer_spans import likeliest_spans
from finetune_serving.windows import LONGEST_ANSWER
from finetune_trainer.metrics.answers import normal, word_f1


def test_case_punctuation_and_articles_do_not_count() -> None:
    assert normal("The  Eiffel-Tower, an hour") == "eiffeltower hour"


@pytest.mark.parametrize(
    ("answer", "right", "f1"),
    [("in London", "London", 2 / 3), ("Paris", "London", 0), ("the", "a", 1), ("", "London", 0)],
)
def test_f1_is_of_words(answer: str, right: str, f1: float) -> None:
    assert word_f1(answer, right) == pytest.approx(f1)


def test_an_answer_ends_after_it_begins_and_is_not_too_long() -> None:
    logits = torch.zeros(1, 50, 2)
    logits[0, 40, 0], logits[0, 2, 1] = 9.0, 9.0  # the likeliest end lies before the likeliest beginning
    [[first, last]] = likeliest_spans(logits, torch.ones(1, 50, dtype=torch.bool))[0].tolist()
    assert first <= last < first + LONGEST_ANSWER
