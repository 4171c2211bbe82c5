"""Entities in a text: spans of characters, from tagged words or from spans as annotation tools write them."""

from itertools import pairwise
from typing import Any, NamedTuple

from finetune_trainer.data.reading import Where
from finetune_trainer.errors import DataError

OUTSIDE = "O"
BEGINS = {"B": "B", "S": "B", "U": "B", "I": "I", "E": "I", "L": "I"}
"""Prefixes of IOB2, BIOES and BILOU, as those of IOB2."""


class Entity(NamedTuple):
    """Characters `start` to `end` (exclusive)."""

    start: int
    end: int
    type: str


def tagged_text(words: Any, tags: Any, where: Where, names: tuple[str, str]) -> tuple[str, list[Entity]]:
    """The words joined by blanks, and the entities that their tags make. `names` are the columns.

    Raises:
        DataError: Names the row and what is wrong with it.
    """
    _check_words(words, where, names[0])
    if not isinstance(tags, list) or len(tags) != len(words):
        got = f"{len(tags)} tags" if isinstance(tags, list) else f"a {type(tags).__name__}"
        raise DataError(f"{where}: column {names[1]!r} holds {got} for {len(words)} words; give one tag a word")
    entities: list[Entity] = []
    start, previous = 0, OUTSIDE
    for number, (word, tag) in enumerate(zip(words, tags, strict=True)):
        tag = _iob2(tag, where, f"{names[1]}[{number}]")
        end = start + len(word)
        if tag != OUTSIDE:
            if tag.startswith("I-") and previous[2:] == tag[2:]:
                entities[-1] = entities[-1]._replace(end=end)
            else:
                entities.append(Entity(start, end, tag[2:]))
        start, previous = end + 1, tag
    return " ".join(words), entities


def _check_words(words: Any, where: Where, name: str) -> None:
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise DataError(f"{where}: column {name!r} must be a list of words")
    for number, word in enumerate(words):
        if not word.strip():
            raise DataError(f"{where}: {name}[{number}] is empty; remove the word and its tag")


def _iob2(tag: Any, where: Where, place: str) -> str:
    if tag == OUTSIDE:
        return OUTSIDE
    prefix, dash, kind = tag.partition("-") if isinstance(tag, str) else ("", "", "")
    if prefix not in BEGINS or not dash or not kind:
        raise DataError(f"{where}: {place} is {tag!r}; a tag is O, B-TYPE or I-TYPE, such as B-PERSON")
    return f"{BEGINS[prefix]}-{kind}"


def marked_spans(text: str, spans: Any, where: Where, name: str) -> list[Entity]:
    """Spans {start, end, label} of a text, in order.

    Raises:
        DataError: One lies outside the text, is empty or overlaps another.
    """
    if not isinstance(spans, list):
        raise DataError(f"{where}: column {name!r} must be a list of {{start, end, label}}")
    found = sorted(_span(text, span, where, f"{name}[{number}]") for number, span in enumerate(spans))
    for one, other in pairwise(found):
        if other.start < one.end:
            raise DataError(f"{where}: {name} has entities that overlap: {one} and {other}; keep one of them")
    return found


def _span(text: str, span: Any, where: Where, place: str) -> Entity:
    try:
        entity = Entity(int(span["start"]), int(span["end"]), str(span["label"]))
    except (TypeError, KeyError, ValueError):
        raise DataError(f"{where}: {place} must be {{start, end, label}}; got {span!r}") from None
    if not 0 <= entity.start < entity.end <= len(text):
        raise DataError(
            f"{where}: {place} spans characters {entity.start} to {entity.end} of a text of {len(text)}; correct it"
        )
    return entity


def tags_of_words(words: list[tuple[int, int]], entities: list[Entity]) -> list[str]:
    """One IOB2 tag a word (start, end); a word is of an entity when they share a character."""
    tags = [OUTSIDE] * len(words)
    for entity in entities:
        inside = [i for i, (start, end) in enumerate(words) if start < entity.end and end > entity.start]
        for place, index in enumerate(inside):
            tags[index] = f"{'I' if place else 'B'}-{entity.type}"
    return tags
