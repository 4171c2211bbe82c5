"""What cleaning mends, what it leaves out, and that it counts both."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from finetune_api.data_preparation import Cleaning, NearDuplicates
from finetune_trainer.data.cleaner import Cleaner, Tally
from finetune_trainer.data.cleaning import without_repeats
from finetune_trainer.data.examples import Example
from finetune_trainer.data.reading import Where
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


def test_own_patterns_redact_too_and_all_are_counted() -> None:
    redact = {"kinds": ["Email"], "patterns": {"Ticket": r"T-\d+"}}
    contents = [("T-12 of a@b.de", "sent to c@d.de"), [{"role": "user", "content": "T-3"}]]
    kept, tally = clean(contents, redact=redact)
    assert kept == [("[Ticket] of [Email]", "sent to [Email]"), [{"role": "user", "content": "[Ticket]"}]]
    assert tally.report()["redacted"] == {"Email": 2, "Ticket": 2}
    assert tally.edited == 2


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
    assert clean(["立即购买并节省大笔资金" * 6, ukrainian], maxRepetition=0.5)[0] == [ukrainian], "without spaces"
    assert letter_share("äß 1") == pytest.approx(2 / 3)
    assert repetition("one two three four five six") == 0


def test_an_empty_text_is_refused_with_its_line_unless_it_may_be_dropped() -> None:
    with pytest.raises(DataError, match=r"train\.jsonl line 2: the text is empty after cleaning"):
        clean(["a", " \x07 "], whitespace="Collapse")
    kept, tally = clean(["a", " \x07 "], whitespace="Collapse", empty="Drop")
    assert (kept, dict(tally.dropped)) == (["a"], {"empty": 1})


def test_what_a_call_has_no_words_beside_is_not_empty_and_tools_are_no_part_of_what_was_said(tmp_path: Path) -> None:
    def chat(said: str) -> dict[str, Any]:
        call = {"type": "function", "function": {"name": "find", "arguments": {"city": said}}}
        tool = {"name": "find", "description": "finds what is open in a city at an hour of the day " * 9}
        turns = [{"role": "user", "content": said}, {"role": "assistant", "content": "", "tool_calls": [call]}]
        return {"turns": turns, "tools": [{"type": "function", "function": tool}]}

    chats = [chat("bakeries in Kyiv on Sunday"), chat("a pharmacy near the station of Lyon")]
    assert clean(chats, unicode="NFC", minCharacters=20)[0] == chats
    assert distinct(tmp_path, {"train": chats}, nearDuplicates={})[0] == {"train": chats}


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


def test_texts_above_the_threshold_are_hardly_ever_missed_and_others_hardly_ever_left_out(tmp_path: Path) -> None:
    from finetune_trainer.data.near_duplicates import _ngrams, near_duplicates

    draws = np.random.Generator(np.random.Philox(0))
    texts, shares = list[str](), list[float]()
    for number in range(500):
        text = "".join(draws.choice(list("abcdefghijklmnopqrstuvwxyz"), 200))
        other = text[: 200 - number % 60] + "".join(draws.choice(list("0123456789"), number % 60))
        one, two = set(_ngrams(text, 5)), set(_ngrams(other, 5))
        texts += [text, other]
        shares.append(len(one & two) / len(one | two))
    for threshold in (0.6, 0.7, 0.85):
        found = near_duplicates(texts, NearDuplicates(threshold=threshold), tmp_path)
        assert not found[::2].any(), "texts that have nothing in common"
        far_above = found[1::2][np.asarray(shares) >= threshold + 0.07]
        assert far_above.mean() >= 0.97
        assert not found[1::2][np.asarray(shares) < threshold - 0.12].any()
