"""ROUGE, BLEU and chrF of written texts."""

import pytest

from finetune_trainer.metrics.written_text import overlap


def test_equal_texts_are_perfect_and_strangers_are_nothing() -> None:
    text = "the parcel never came to my door"
    assert overlap([text], [text]) == pytest.approx(dict.fromkeys(["rouge1", "rouge2", "rougeL", "bleu", "chrf"], 1.0))
    assert max(overlap([text], [""]).values()) == 0


def test_rouge_is_the_f1_of_shared_words() -> None:
    """Two of three words written, two of four expected: F1 4/7; one pair in order of two and three: 2/5."""
    scores = overlap(["a parcel never came"], ["parcel came late"])
    assert scores["rouge1"] == pytest.approx(4 / 7)
    assert scores["rougeL"] == pytest.approx(4 / 7)
    assert overlap(["a b c d"], ["b c x"])["rouge2"] == pytest.approx(2 / 5)


def test_other_alphabets_count() -> None:
    assert overlap(["посылка не пришла"], ["посылка не пришла"])["rougeL"] == 1
