"""Finding entities in texts with a token classification model."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from finetune_serving.loading import LoadedModel
from finetune_serving.prediction import Row, Tensor, texts_within
from finetune_serving.served_names import TEXT_INPUT

Word = tuple[int, int, int]
"""Place of its first token, first character, character after its last."""


@dataclass(frozen=True)
class TaggedText:
    """A text as numbers, and where its words are."""

    text: str
    tokens: Mapping[str, list[int]]
    words: list[Word]


@dataclass(frozen=True)
class Entity:
    """Characters `start` to `end` (exclusive) of the text."""

    start: int
    end: int
    text: str
    type: str
    score: float
    """Mean probability of the tags of its words."""


class EntityFinder:
    """A word has the tag of its first token; tags are O, B-TYPE and I-TYPE."""

    inputs = (TEXT_INPUT,)
    warm_up: Row = {TEXT_INPUT: "warm-up"}

    def __init__(self, loaded: LoadedModel) -> None:
        self._model = loaded.model
        self._tokenizer = loaded.processor
        self._limit = loaded.max_length
        self._tags = list(loaded.description.labels or [])

    def encode(self, rows: Sequence[Row], truncate: bool = False) -> list[TaggedText]:
        texts = [row[TEXT_INPUT] for row in rows]
        encoded = self._tokenizer(
            texts,
            truncation=truncate,
            max_length=self._limit if truncate else None,
            return_offsets_mapping=True,
        )
        offsets = encoded.pop("offset_mapping")
        tokens = texts_within([{k: encoded[k][i] for k in encoded} for i in range(len(texts))], self._limit)
        return [
            TaggedText(text, tokens[i], words_of(text, encoded.word_ids(i), offsets[i])) for i, text in enumerate(texts)
        ]

    @torch.inference_mode()
    def predict(self, encodings: Sequence[TaggedText]) -> list[list[Entity]]:
        batch = self._tokenizer.pad([dict(encoding.tokens) for encoding in encodings], return_tensors="pt")
        logits = self._model(**batch.to(self._model.device)).logits[:, -batch["input_ids"].shape[1] :]
        scores, tags = torch.softmax(logits.float(), dim=-1).cpu().max(dim=-1)
        return [
            entities(encoding, [self._tags[tag] for tag in row], score)
            for encoding, row, score in zip(encodings, tags.tolist(), scores.tolist(), strict=True)
        ]

    def outputs(self, predictions: Sequence[list[Entity]]) -> dict[str, Tensor]:
        found = [json.dumps([asdict(entity) for entity in row], ensure_ascii=False) for row in predictions]
        return {
            "entities": {
                "datatype": "BYTES",
                "shape": [len(predictions)],
                "parameters": {"types": sorted({tag[2:] for tag in self._tags if tag != "O"})},
                "data": found,
            }
        }


def words_of(text: str, word_ids: Sequence[int | None], offsets: Sequence[Sequence[int]]) -> list[Word]:
    """The words that the tokenizer sees, without the blanks around them."""
    words: dict[int, Word] = {}
    for place, (word, (start, end)) in enumerate(zip(word_ids, offsets, strict=True)):
        if word is None or not text[start:end].strip():
            continue
        start += len(text[start:end]) - len(text[start:end].lstrip())
        first, begins, _ = words.get(word, (place, start, end))
        words[word] = (first, begins, end)
    return list(words.values())


def entities(encoding: TaggedText, tags: list[str], scores: list[float]) -> list[Entity]:
    """Neighbouring words of one type; B- begins a new entity, and so does an I- that continues nothing."""
    found: list[tuple[str, list[Word]]] = []
    previous = "O"
    for word in encoding.words:
        tag = tags[word[0]]
        if tag != "O":
            if tag.startswith("I-") and previous[2:] == tag[2:]:
                found[-1][1].append(word)
            else:
                found.append((tag[2:], [word]))
        previous = tag
    return [_entity(encoding.text, kind, words, scores) for kind, words in found]


def _entity(text: str, kind: str, words: list[Word], scores: list[float]) -> Entity:
    start, end = words[0][1], words[-1][2]
    values: list[Any] = [scores[word[0]] for word in words]
    return Entity(start, end, text[start:end], kind, sum(values) / len(values))
