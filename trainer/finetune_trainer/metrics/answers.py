"""Exact match and F1 of answers, as SQuAD's own script counts them (Rajpurkar et al. 2016, section 6.1)."""

import re
import string
from collections import Counter
from itertools import groupby
from typing import Any

import numpy as np
import orjson
from torch import Tensor

from finetune_trainer.data.batches import Batch
from finetune_trainer.data.encoded import FIRST_PIECE, Encoded
from finetune_trainer.metrics.scores import Evaluation

Span = tuple[int, int]
SHOWN = 5
"""So many answers are shown in the report."""
Answered = tuple[int, int, Span, float, float | None]
"""Question, row, characters of the answer, how likely it is, and the loss where it is known what is right."""


class AnswerScores:
    """Keeps where each answer begins and ends.

    A question whose answer was cut off with the end of its context is asked like any other: what is found in the rest
    is compared with the right answers. It has no loss. Of a context in windows, the likeliest answer of all counts.
    """

    def __init__(self, encoded: Encoded) -> None:
        self._encoded = encoded
        self._parts: list[tuple[np.ndarray, Tensor, Tensor, Tensor]] = []

    def add(self, predictions: tuple[Tensor, Tensor, Tensor], batch: Batch, rows: np.ndarray) -> None:
        """`predictions` are first and last token of each answer, (rows, 2), how likely they are, and the losses."""
        self._parts.append((rows, *predictions))

    def share(self) -> list[Answered]:
        shares: list[Answered] = []
        for rows, *values in self._parts:
            for row, span, likely, loss in zip(rows.tolist(), *(value.tolist() for value in values), strict=True):
                known = loss if self._encoded.targets[row] else None
                shares.append((self._question(row), row, self._characters(row, *span), likely, known))
        return shares

    def _question(self, row: int) -> int:
        """The example that has the question's context and right answers."""
        first = self._encoded.columns.get(FIRST_PIECE)
        return row if first is None else int(first[row][0])

    def _characters(self, row: int, first: int, last: int) -> Span:
        if not self._encoded["within"][row][first]:  # nothing of the context had room
            return 0, 0
        offsets = self._encoded["offsets"][row]
        return int(offsets[2 * first]), int(offsets[2 * last + 1])

    def _answer(self, windows: list[Answered]) -> tuple[str, list[str]]:
        """The likeliest answer of all windows of a question, and the right ones."""
        question, _, (start, end), _, _ = max(windows, key=lambda window: (window[3], -window[1]))
        context = self._encoded["context"][question].tobytes().decode()
        return context[start:end], orjson.loads(self._encoded["answers"][question].tobytes())

    def result(self, shares: list[Any]) -> Evaluation:
        found = sorted((answer for share in shares for answer in share), key=lambda answer: answer[:2])
        answers = [self._answer(list(windows)) for _, windows in groupby(found, key=lambda answer: answer[0])]
        losses = [loss for *_, loss in found if loss is not None]
        count = max(1, len(answers))
        metrics = {
            "exactMatch": sum(max(float(normal(a) == normal(r)) for r in right) for a, right in answers) / count,
            "f1": sum(max(word_f1(a, r) for r in right) for a, right in answers) / count,
            "loss": sum(losses) / max(1, len(losses)),
        }
        shown = [{"answer": answer, "right": right} for answer, right in answers[:SHOWN]]
        return Evaluation(metrics, {"questions": len(answers), "samples": shown})


def normal(text: str) -> str:
    """Lower case, without punctuation, articles and double blanks."""
    bare = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def word_f1(answer: str, right: str) -> float:
    """F1 of the words that both have; two empty answers are equal."""
    ours, theirs = normal(answer).split(), normal(right).split()
    if not ours or not theirs:
        return float(ours == theirs)
    shared = (Counter(ours) & Counter(theirs)).total()
    return 2 * shared / (len(ours) + len(theirs))
