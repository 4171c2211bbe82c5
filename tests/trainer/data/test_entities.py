"""Entities, from tagged words and from marked spans."""

from typing import Any

import pytest

from finetune_trainer.data.entities import Entity, marked_spans, tagged_text, tags_of_words
from finetune_trainer.data.reading import Where
from finetune_trainer.errors import DataError

HERE = Where("d.jsonl", 3)
NAMES = ("tokens", "tags")


@pytest.mark.parametrize(
    "tags",
    [
        ["B-PER", "I-PER", "O", "B-LOC"],
        ["B-PER", "E-PER", "O", "S-LOC"],
        ["B-PER", "L-PER", "O", "U-LOC"],
        ["I-PER", "I-PER", "O", "I-LOC"],
    ],
    ids=["IOB2", "BIOES", "BILOU", "IOB1"],
)
def test_every_scheme_of_tags_gives_the_same_entities(tags: list[str]) -> None:
    text, entities = tagged_text(["Ada", "Lovelace", "saw", "Rome"], tags, HERE, NAMES)
    assert text == "Ada Lovelace saw Rome"
    assert [(text[e.start : e.end], e.type) for e in entities] == [("Ada Lovelace", "PER"), ("Rome", "LOC")]


def test_neighbours_of_one_type_are_two_entities_when_the_second_begins() -> None:
    _, entities = tagged_text(["Rome", "Paris"], ["B-LOC", "B-LOC"], HERE, NAMES)
    assert entities == [Entity(0, 4, "LOC"), Entity(5, 10, "LOC")]


def test_a_word_that_the_tokenizer_splits_has_one_beginning() -> None:
    assert tags_of_words([(0, 1), (1, 2), (2, 3), (4, 7)], [Entity(0, 3, "LOC")]) == ["B-LOC", "I-LOC", "I-LOC", "O"]


@pytest.mark.parametrize(
    ("words", "tags", "expected"),
    [
        ("Rome", ["O"], "'tokens' must be a list of words"),
        (["Rome", " "], ["O", "O"], r"tokens\[1\] is empty"),
        (["Rome"], ["O", "O"], "'tags' holds 2 tags for 1 words"),
        (["Rome"], ["LOC"], r"tags\[0\] is 'LOC'; a tag is O, B-TYPE or I-TYPE"),
        (["Rome"], [3], r"tags\[0\] is 3"),
    ],
)
def test_bad_tags_are_named(words: Any, tags: Any, expected: str) -> None:
    with pytest.raises(DataError, match=rf"d\.jsonl line 3: .*{expected}"):
        tagged_text(words, tags, HERE, NAMES)


def test_spans_are_sorted() -> None:
    spans = [{"start": 5, "end": 9, "label": "LOC"}, {"start": 0, "end": 4, "label": "PER"}]
    assert marked_spans("Anna Rome", spans, HERE, "entities") == [Entity(0, 4, "PER"), Entity(5, 9, "LOC")]


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ({"start": 0}, "must be a list of"),
        ([{"start": 0, "end": 4}], r"entities\[0\] must be \{start, end, label\}"),
        ([{"start": 0, "end": 40, "label": "A"}], "characters 0 to 40 of a text of 9"),
        ([{"start": 0, "end": 4, "label": "A"}, {"start": 2, "end": 6, "label": "B"}], "overlap"),
    ],
)
def test_bad_spans_are_named(spans: Any, expected: str) -> None:
    with pytest.raises(DataError, match=rf"d\.jsonl line 3: .*{expected}"):
        marked_spans("Anna Rome", spans, HERE, "entities")
