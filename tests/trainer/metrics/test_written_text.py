"""ROUGE, BLEU and chrF of written texts."""

import pytest

from finetune_trainer.metrics.written_text import Overlap


def overlap(expected: list[str], written: list[str]) -> dict[str, float]:
    found = Overlap()
    found.add(expected, written)
    return found.metrics()


def test_sums_are_those_of_the_whole_however_texts_come() -> None:
    from sacrebleu.metrics import BLEU, CHRF

    expected = ["the parcel never came", "my card was charged twice", "where is it"]
    written = ["the parcel came late", "the card was charged twice", "it is where"]
    first, second = Overlap(), Overlap()
    first.add(expected[:1], written[:1])
    second.add(expected[1:2], written[1:2])
    second.add(expected[2:], written[2:])
    both = Overlap([a + b for a, b in zip(first.sums, second.sums, strict=True)])
    assert both.metrics() == overlap(expected[::-1], written[::-1])
    assert both.texts == 3
    assert both.metrics()["bleu"] == BLEU().corpus_score(written, [expected]).score / 100
    assert both.metrics()["chrf"] == CHRF().corpus_score(written, [expected]).score / 100


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
