"""Answering questions from a text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from finetune_serving.answer_spans import likeliest_spans
from finetune_serving.loading import LoadedModel
from finetune_serving.prediction import InputTooLong, Row, Tensor, texts_within
from finetune_serving.windows import AT_ONCE, TextRange, Window, null_place

QUESTION, CONTEXT = "question", "context"


@dataclass(frozen=True)
class Part:
    """What a model reads at a time: the question, and a window of the context."""

    tokens: Mapping[str, list[int]]
    within: list[bool]
    offsets: list[tuple[int, int]]
    """Where the context's tokens stand in it."""


@dataclass(frozen=True)
class QuestionOnText:
    """Question and context as numbers."""

    context: str
    parts: list[Part]


@dataclass(frozen=True)
class Answer:
    """Characters `start` to `end` (exclusive) of the context."""

    text: str
    start: int
    end: int
    score: float
    """Probability of its beginning times that of its end."""


class AnswerFinder:
    """The likeliest stretch of the context; of a context in windows, the likeliest of all of them."""

    inputs = (QUESTION, CONTEXT)
    warm_up: Row = {QUESTION: "warm-up", CONTEXT: "warm-up"}

    def __init__(self, loaded: LoadedModel) -> None:
        self._model = loaded.model
        self._tokenizer = loaded.processor
        self._windows = loaded.description.windows
        self._limit = loaded.longest_text

    def encode(self, rows: Sequence[Row], truncate: bool = False) -> list[QuestionOnText]:
        cuts = truncate and not self._windows
        encoded = self._tokenizer(
            [row[QUESTION] for row in rows],
            [row[CONTEXT] for row in rows],
            truncation="only_second" if cuts else False,
            max_length=self._limit if cuts else None,
            return_offsets_mapping=True,
        )
        offsets = encoded.pop("offset_mapping")
        tokens: list[Mapping[str, list[int]]] = [{k: encoded[k][i] for k in encoded} for i in range(len(rows))]
        if not self._windows:
            texts_within(tokens, self._limit)
        whole = [Part(tokens[i], _within(encoded.sequence_ids(i), offsets[i]), offsets[i]) for i in range(len(rows))]
        return [
            QuestionOnText(row[CONTEXT], self._parts(i, whole[i], TextRange.of(encoded.sequence_ids(i), 1)))
            for i, row in enumerate(rows)
        ]

    def _parts(self, row: int, whole: Part, context: TextRange) -> list[Part]:
        length = len(whole.within)
        if length <= self._limit:
            return [whole]
        try:
            windows = context.windows(length, self._limit)
        except ValueError:  # the question alone is too long
            raise InputTooLong(row, length - (context.end - context.start), self._limit) from None
        return [_part(whole, context, window) for window in windows]

    @torch.inference_mode()
    def predict(self, encodings: Sequence[QuestionOnText]) -> list[Answer]:
        parts = [part for encoding in encodings for part in encoding.parts]
        found = [answer for at in range(0, len(parts), AT_ONCE) for answer in self._found(parts[at : at + AT_ONCE])]
        answers = []
        for encoding in encodings:
            own, found = found[: len(encoding.parts)], found[len(encoding.parts) :]
            start, end, score = max(own, key=lambda answer: answer[2])
            start, end = without_blanks(encoding.context, start, end)
            answers.append(Answer(encoding.context[start:end], start, end, score))
        return answers

    def _found(self, parts: Sequence[Part]) -> list[tuple[int, int, float]]:
        """Characters and probability of the best answer of each part."""
        batch = self._tokenizer.pad([dict(part.tokens) for part in parts], return_tensors="pt")
        said = self._model(**batch.to(self._model.device))
        length = batch["input_ids"].shape[1]  # virtual tokens come before
        logits = torch.stack([said.start_logits[:, -length:], said.end_logits[:, -length:]], dim=-1).float().cpu()
        within = torch.zeros(logits.shape[:2], dtype=torch.bool)
        for row, part in enumerate(parts):
            within[row, : len(part.within)] = torch.tensor(part.within)
        candidates = within.clone()
        if self._windows:
            for row, part in enumerate(parts):
                candidates[row, null_place(part.tokens["input_ids"], self._tokenizer.cls_token_id)] = True
        spans, scores = likeliest_spans(logits, within, candidates)
        return [
            (*_characters(part, first, last), score)
            for part, (first, last), score in zip(parts, spans.tolist(), scores.exp().tolist(), strict=True)
        ]

    def outputs(self, predictions: Sequence[Answer]) -> dict[str, Tensor]:
        count = len(predictions)
        return {
            "answer": {"datatype": "BYTES", "shape": [count], "data": [answer.text for answer in predictions]},
            "span": {
                "datatype": "INT64",
                "shape": [count, 2],
                "data": [place for answer in predictions for place in (answer.start, answer.end)],
            },
            "score": {"datatype": "FP32", "shape": [count], "data": [answer.score for answer in predictions]},
        }


def _within(parts: Sequence[int | None], offsets: Sequence[tuple[int, int]]) -> list[bool]:
    return [part == 1 and end > start for part, (start, end) in zip(parts, offsets, strict=True)]


def _part(whole: Part, context: TextRange, window: Window) -> Part:
    return Part(
        context.tokens(whole.tokens, window), context.shown(whole.within, window), context.shown(whole.offsets, window)
    )


def _characters(part: Part, first: int, last: int) -> tuple[int, int]:
    return (part.offsets[first][0], part.offsets[last][1]) if any(part.within) else (0, 0)


def without_blanks(text: str, start: int, end: int) -> tuple[int, int]:
    """The same characters of `text` but for blanks at their ends: SentencePiece's tokens begin with those before words,
    those of RoBERTa may."""
    found = text[start:end]
    return (end - len(found.lstrip()), start + len(found.rstrip())) if found.strip() else (start, end)
