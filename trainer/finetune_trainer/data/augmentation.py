"""Altered copies of training texts (EDA: Wei and Zou 2019, arXiv:1901.11196)."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from finetune_api.augmentation import TextAugmentation
from finetune_trainer.data.examples import Example, text_column
from finetune_trainer.data.reading import Row

Synonyms = dict[str, list[str]]


def read_synonyms(rows: Iterable[Row]) -> Synonyms:
    """What may stand for each word, in lower case."""
    table: Synonyms = defaultdict(list)
    for row in rows:
        field = "the file's columns"
        table[text_column(row, "word", field).strip().lower()].append(text_column(row, "synonym", field).strip())
    return dict(table)


def augmented(examples: Iterable[Example], settings: TextAugmentation, synonyms: Synonyms) -> Iterator[Example]:
    """The copies that differ from their originals and from each other, each a function of seed and text alone."""
    for example in examples:
        taken = {example.content}
        for number in range(settings.copies):
            text = altered(example.content, settings, synonyms, _generator(example, settings.seed, number))
            if text not in taken:
                taken.add(text)
                yield replace(example, content=text, altered=True)


def altered(text: str, settings: TextAugmentation, synonyms: Synonyms, generator: np.random.Generator) -> str:
    """Some words replaced, swapped or left out; at least one word stays."""
    words = text.split()
    if settings.synonyms:
        words = _replaced(words, settings.synonyms.share, synonyms, generator)
    for _ in range(round(settings.swap * len(words) / 2)):
        one, other = generator.integers(len(words), size=2)
        words[one], words[other] = words[other], words[one]
    if settings.deletion:
        stays = generator.random(len(words)) >= settings.deletion
        words = [word for word, stay in zip(words, stays, strict=True) if stay] or [words[0]]
    return " ".join(words)


def _replaced(words: list[str], share: float, synonyms: Synonyms, generator: np.random.Generator) -> list[str]:
    known = [place for place, word in enumerate(words) if word.lower() in synonyms]
    count = min(len(known), max(1, round(share * len(words))))
    result = list(words)
    for place in generator.permutation(known)[:count]:
        choices = synonyms[words[place].lower()]
        result[place] = choices[int(generator.integers(len(choices)))]
    return result


def _generator(example: Example, seed: int, number: int) -> np.random.Generator:
    key = hashlib.sha256(b"%d:%d:" % (seed, number) + example.identity).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key[:16], "little")))
