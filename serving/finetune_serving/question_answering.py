"""Answering questions from a text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from finetune_serving.loading import LoadedModel
from finetune_serving.prediction import Row, Tensor, texts_within

QUESTION, CONTEXT = "question", "context"
LONGEST_ANSWER = 30
"""In tokens, as in training."""


@dataclass(frozen=True)
class QuestionOnText:
    """Question and context as numbers, and where the context's tokens stand in it."""

    context: str
    tokens: Mapping[str, list[int]]
    within: list[bool]
    offsets: list[tuple[int, int]]


@dataclass(frozen=True)
class Answer:
    """Characters `start` to `end` (exclusive) of the context."""

    text: str
    start: int
    end: int
    score: float
    """Probability of its beginning times that of its end."""


class AnswerFinder:
    """The likeliest stretch of the context."""

    inputs = (QUESTION, CONTEXT)
    warm_up: Row = {QUESTION: "warm-up", CONTEXT: "warm-up"}

    def __init__(self, loaded: LoadedModel) -> None:
        self._model = loaded.model
        self._tokenizer = loaded.processor
        self._limit = loaded.max_length

    def encode(self, rows: Sequence[Row], truncate: bool = False) -> list[QuestionOnText]:
        encoded = self._tokenizer(
            [row[QUESTION] for row in rows],
            [row[CONTEXT] for row in rows],
            truncation="only_second" if truncate else False,
            max_length=self._limit if truncate else None,
            return_offsets_mapping=True,
        )
        offsets = encoded.pop("offset_mapping")
        tokens = texts_within([{k: encoded[k][i] for k in encoded} for i in range(len(rows))], self._limit)
        return [
            QuestionOnText(row[CONTEXT], tokens[i], _within(encoded.sequence_ids(i), offsets[i]), offsets[i])
            for i, row in enumerate(rows)
        ]

    @torch.inference_mode()
    def predict(self, encodings: Sequence[QuestionOnText]) -> list[Answer]:
        batch = self._tokenizer.pad([dict(encoding.tokens) for encoding in encodings], return_tensors="pt")
        found = self._model(**batch.to(self._model.device))
        length = batch["input_ids"].shape[1]  # virtual tokens come before
        starts, ends = found.start_logits[:, -length:].float().cpu(), found.end_logits[:, -length:].float().cpu()
        return [_answer(e, starts[i], ends[i]) for i, e in enumerate(encodings)]

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


def _answer(encoding: QuestionOnText, starts: torch.Tensor, ends: torch.Tensor) -> Answer:
    within = torch.tensor(encoding.within)
    if not within.any():
        return Answer("", 0, 0, 0.0)
    places = [torch.log_softmax(x[: len(within)].masked_fill(~within, -torch.inf), dim=0) for x in (starts, ends)]
    together = places[0].unsqueeze(1) + places[1].unsqueeze(0)
    allowed = torch.ones_like(together, dtype=torch.bool).triu().tril(LONGEST_ANSWER - 1)
    together = together.masked_fill(~allowed, -torch.inf)
    first, last = divmod(int(together.argmax()), len(within))
    start, end = encoding.offsets[first][0], encoding.offsets[last][1]
    return Answer(encoding.context[start:end], start, end, float(together[first, last].exp()))
