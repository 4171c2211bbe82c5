"""Finding entities in texts with a token classification model."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import torch

from finetune_serving.loading import LoadedModel
from finetune_serving.prediction import Row, Tensor, texts_within
from finetune_serving.served_names import TEXT_INPUT
from finetune_serving.windows import AT_ONCE, TextRange

Word = tuple[int, int, int]
"""Place of its first token, first character, character after its last."""


@dataclass(frozen=True)
class Part:
    """What a model reads at a time, and which of its tokens, by their places in the whole text, are tagged by it."""

    tokens: Mapping[str, list[int]]
    tagged: range
    offset: int = 0
    """Of a tagged token, its place in the whole text less that in this part."""


@dataclass(frozen=True)
class TaggedText:
    """A text as numbers, and where its words are."""

    text: str
    parts: list[Part]
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
        self._windows = loaded.description.windows
        self._limit = loaded.longest_text
        self._tags = list(loaded.description.labels or [])

    def encode(self, rows: Sequence[Row], truncate: bool = False) -> list[TaggedText]:
        texts, cuts = [row[TEXT_INPUT] for row in rows], truncate and not self._windows
        encoded = self._tokenizer(
            texts,
            truncation=cuts,
            max_length=self._limit if cuts else None,
            return_offsets_mapping=True,
            return_token_type_ids=False,  # as in training
        )
        offsets = encoded.pop("offset_mapping")
        tokens: list[Mapping[str, list[int]]] = [{k: encoded[k][i] for k in encoded} for i in range(len(texts))]
        if not self._windows:
            texts_within(tokens, self._limit)
        return [
            TaggedText(
                text,
                self._parts(tokens[i], TextRange.of(encoded.sequence_ids(i), 0)),
                words_of(text, encoded.word_ids(i), offsets[i]),
            )
            for i, text in enumerate(texts)
        ]

    def _parts(self, tokens: Mapping[str, list[int]], text: TextRange) -> list[Part]:
        length = len(tokens["input_ids"])
        if length <= self._limit:
            return [Part(tokens, range(length))]
        return [
            Part(text.tokens(tokens, window), range(window.first, window.last), window.start - text.start)
            for window in text.windows(length, self._limit)
        ]

    @torch.inference_mode()
    def predict(self, encodings: Sequence[TaggedText]) -> list[list[Entity]]:
        parts = [part for encoding in encodings for part in encoding.parts]
        found = [tagged for at in range(0, len(parts), AT_ONCE) for tagged in self._tagged(parts[at : at + AT_ONCE])]
        answers = []
        for encoding in encodings:
            own, found = found[: len(encoding.parts)], found[len(encoding.parts) :]
            tags = {place: tag for part in own for place, tag in part.items()}
            answers.append(entities(encoding, tags))
        return answers

    def _tagged(self, parts: Sequence[Part]) -> list[dict[int, tuple[str, float]]]:
        """Of each part: the tag and its probability of every token that is tagged by it, by place in the text."""
        batch = self._tokenizer.pad([dict(part.tokens) for part in parts], return_tensors="pt")
        logits = self._model(**batch.to(self._model.device)).logits[:, -batch["input_ids"].shape[1] :]
        scores, tags = torch.softmax(logits.float(), dim=-1).cpu().max(dim=-1)
        return [
            {place: (self._tags[tags[place - part.offset]], scores[place - part.offset]) for place in part.tagged}
            for part, tags, scores in zip(parts, tags.tolist(), scores.tolist(), strict=True)
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


def entities(encoding: TaggedText, tags: Mapping[int, tuple[str, float]]) -> list[Entity]:
    """Neighbouring words of one type; B- begins a new entity, and so does an I- that continues nothing.

    `tags` are those of tokens by place, with their probabilities.
    """
    found: list[tuple[str, list[Word]]] = []
    previous = "O"
    for word in encoding.words:
        tag, _ = tags[word[0]]
        if tag != "O":
            if tag.startswith("I-") and previous[2:] == tag[2:]:
                found[-1][1].append(word)
            else:
                found.append((tag[2:], [word]))
        previous = tag
    return [_entity(encoding.text, kind, [tags[word[0]][1] for word in words], words) for kind, words in found]


def _entity(text: str, kind: str, scores: list[float], words: list[Word]) -> Entity:
    start, end = words[0][1], words[-1][2]
    return Entity(start, end, text[start:end], kind, sum(scores) / len(scores))
