"""What cleaning mends, what it leaves out, and that it counts both."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from finetune_api.data_preparation import Cleaning, NearDuplicates, Redaction
from finetune_trainer.data.cleaner import Cleaner, Tally
from finetune_trainer.data.cleaning import without_repeats
from finetune_trainer.data.examples import Example
from finetune_trainer.data.reading import Where
from finetune_trainer.data.redaction import Redactor
from finetune_trainer.data.text_rules import letter_share, repetition
from finetune_trainer.errors import DataError
from trainer.data.spooled import spooled


def clean(contents: list[Any], **settings: Any) -> tuple[list[Any], Tally]:
    """By each rule that looks at one example."""
    tally, cleaner = Tally(), Cleaner(Cleaning.model_validate(settings))
    examples = [Example(content, Where("train.jsonl", line)) for line, content in enumerate(contents, start=1)]
    cleaned = [cleaner.clean(example, tally) for example in examples]
    return [example.content for example in cleaned if example], tally


def distinct(folder: Path, parts: dict[str, list[str]], **settings: Any) -> tuple[dict[str, list[str]], dict]:
    """By the rules that compare examples, and what they dropped of each part."""
    tallies = {part: Tally() for part in parts}
    whole = spooled(Example(content, Where(part, 1)) for part, contents in parts.items() for content in contents)
    sources = np.repeat(list(parts), [len(contents) for contents in parts.values()])
    examples = {part: whole.chosen(sources == part) for part in parts}
    left = without_repeats(examples, Cleaning.model_validate(settings), tallies, folder)
    return (
        {part: [example.content for example in some] for part, some in left.items()},
        {part: dict(tally.dropped) for part, tally in tallies.items()},
    )


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("Email", "write to Ann.O'Neil+x@mail.example.co.uk, please", "write to Ann.O'[Email], please"),
        ("Email", "it is @home or a@b", "it is @home or a@b"),
        ("Phone", "call +49 (0)30 901820-12 or 030/9018201", "call [Phone] or [Phone]"),
        ("Phone", "order 12345678, version 1.2.3", "order 12345678, version 1.2.3"),
        ("CreditCard", "card 4111 1111 1111 1111 expired", "card [CreditCard] expired"),
        ("CreditCard", "card 4111 1111 1111 1112 expired", "card 4111 1111 1111 1112 expired"),
        ("Iban", "to DE89 3704 0044 0532 0130 00 today", "to [Iban] today"),
        ("Iban", "to DE88 3704 0044 0532 0130 00 today", "to DE88 3704 0044 0532 0130 00 today"),
        ("IpAddress", "from 10.0.0.7 and fe80::1, at 12:30", "from [IpAddress] and [IpAddress], at 12:30"),
        ("IpAddress", "in 300.1.1.1 and 1.2.3", "in 300.1.1.1 and 1.2.3"),
    ],
)
def test_personal_data_is_taken_out_and_what_only_looks_like_it_stays(kind: Any, text: str, expected: str) -> None:
    assert Redactor(Redaction(kinds=[kind]))(text) == expected


def test_own_patterns_redact_too_and_all_are_counted() -> None:
    redact = {"kinds": ["Email"], "patterns": {"Ticket": r"T-\d+"}}
    contents = [("T-12 of a@b.de", "sent to c@d.de"), [{"role": "user", "content": "T-3"}]]
    kept, tally = clean(contents, redact=redact)
    assert kept == [("[Ticket] of [Email]", "sent to [Email]"), [{"role": "user", "content": "[Ticket]"}]]
    assert tally.report()["redacted"] == {"Email": 2, "Ticket": 2}
    assert tally.edited == 2


def test_a_text_that_is_to_be_written_is_redacted_too() -> None:
    example = Example("who wrote", Where("t", 1), target="a@b.de wrote")
    cleaner = Cleaner(Cleaning(redact=Redaction(kinds=["Email"])))
    assert cleaner.clean(example, Tally()).target == "[Email] wrote"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"redact": {"patterns": {"X": "(a"}}}, r"X \(\(a\) is no regular expression: missing \)"),
        ({"redact": {"patterns": {"X": "a*"}}}, "matches the empty text"),
        ({"minCharacters": 9, "maxCharacters": 3}, r"minCharacters \(9\) is above maxCharacters \(3\)"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        Cleaning.model_validate(settings)


def test_texts_are_normalised() -> None:
    kept, tally = clean(
        ["e\u0301 \ufb01t\u200b\x07  ", "line one \r\n line\ttwo"], unicode="NFKC", whitespace="Collapse"
    )
    assert kept == ["é fit", "line one \n line two"]
    assert tally.edited == 2
    assert clean(["\ufb01"], unicode="NFC")[0] == ["\ufb01"]


def test_each_rule_leaves_out_what_breaks_it_in_any_language() -> None:
    ukrainian = "Посилка так і не прийшла"
    spam = "buy now and save big money " * 6
    kept, tally = clean(
        [ukrainian, "so", "x" * 300, "1234 5678 ---- 99", spam, "小包がまだ届きません"],
        minCharacters=3,
        maxCharacters=200,
        minLetterShare=0.6,
        maxRepetition=0.5,
    )
    assert kept == [ukrainian, "小包がまだ届きません"]
    assert tally.report()["dropped"] == {"fewLetters": 1, "repetitive": 1, "tooLong": 1, "tooShort": 1}
    assert letter_share("äß 1") == pytest.approx(2 / 3)
    assert repetition("one two three four five six") == 0


def test_an_empty_text_is_refused_with_its_line_unless_it_may_be_dropped() -> None:
    with pytest.raises(DataError, match=r"train\.jsonl line 2: the text is empty after cleaning"):
        clean(["a", " \x07 "], whitespace="Collapse")
    kept, tally = clean(["a", " \x07 "], whitespace="Collapse", empty="Drop")
    assert (kept, dict(tally.dropped)) == (["a"], {"empty": 1})


def test_equal_and_nearly_equal_texts_are_left_out_after_the_first(tmp_path: Path) -> None:
    text = "My parcel with the order number 4711 has not arrived yet, although it was sent two weeks ago."
    near = text.replace("two weeks", "2 weeks").upper()
    other = "I was charged twice for the same invoice and would like to have the second payment back, please."
    both = {"duplicates": "Drop", "nearDuplicates": {"threshold": 0.7}}
    left, dropped = distinct(tmp_path, {"train": [text, text, other, near]}, **both)
    assert left == {"train": [text, other]}
    assert dropped == {"train": {"duplicate": 1, "nearDuplicate": 1}}
    assert distinct(tmp_path, {"train": [text, near]}, duplicates="Drop")[0] == {"train": [text, near]}
    short = {"train": ["a", "b", "a b"]}
    assert distinct(tmp_path, short, nearDuplicates={})[0] == short, "texts shorter than an n-gram"


def test_what_is_held_out_stays_and_what_is_like_it_leaves_the_training_data(tmp_path: Path) -> None:
    parts = {"train": ["a", "b", "c"], "validation": ["b", "d"], "test": ["d", "e"]}
    left, dropped = distinct(tmp_path, parts, duplicates="Drop")
    assert left == {"train": ["a", "c"], "validation": ["b"], "test": ["d", "e"]}
    assert dropped == {"train": {"duplicate": 1}, "validation": {"duplicate": 1}, "test": {}}
    with pytest.raises(DataError, match=r"leaves nothing of dataset\.train \(1 duplicate\); loosen its rules"):
        distinct(tmp_path, {"train": ["a"], "test": ["a"]}, duplicates="Drop")


def test_the_share_of_common_ngrams_decides(tmp_path: Path) -> None:
    from finetune_trainer.data.near_duplicates import near_duplicates

    alphabet = "abcdefghijklmnopqrstuvwxyz" * 2
    texts = [alphabet, alphabet[::-1], alphabet + "a", alphabet + "0123456789" * 9]
    settings = NearDuplicates(threshold=0.9, ngram=3)
    assert near_duplicates(texts, settings, tmp_path).tolist() == [False, False, True, False]
    assert near_duplicates([], settings, tmp_path).tolist() == []
