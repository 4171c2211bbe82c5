"""Exact match and F1 of answers, as SQuAD's own script counts them (Rajpurkar et al. 2016, section 6.1)."""

import re
import string
from collections import Counter
from typing import Any

import numpy as np
import orjson
from torch import Tensor

from finetune_trainer.data.batches import Batch
from finetune_trainer.data.encoded import Encoded
from finetune_trainer.metrics.scores import Evaluation

SHOWN = 5
"""So many answers are shown in the report."""
Answered = tuple[int, str, list[str], float | None]
"""Row, answer, right answers, and the loss of the right one where it was not cut off."""


class AnswerScores:
    """Keeps where each answer begins and ends.

    A question whose answer was cut off with the end of its context is asked like any other: what is found in the rest
    is compared with the right answers. It has no loss.
    """

    def __init__(self, encoded: Encoded) -> None:
        self._encoded = encoded
        self._parts: list[tuple[np.ndarray, Tensor, Tensor]] = []

    def add(self, predictions: tuple[Tensor, Tensor], batch: Batch, rows: np.ndarray) -> None:
        """`predictions` are first and last token of each answer, (rows, 2), and the losses."""
        self._parts.append((rows, *predictions))

    def share(self) -> list[Answered]:
        shares: list[Answered] = []
        for rows, spans, losses in self._parts:
            for row, span, loss in zip(rows.tolist(), spans.tolist(), losses.tolist(), strict=True):
                right = orjson.loads(self._encoded["answers"][row].tobytes())
                known = loss if self._encoded.targets[row] else None
                shares.append((row, self._text(row, *span), right, known))
        return shares

    def _text(self, row: int, first: int, last: int) -> str:
        if not self._encoded["within"][row][first]:  # nothing of the context had room
            return ""
        offsets = self._encoded["offsets"][row]
        context = self._encoded["context"][row].tobytes().decode()
        return context[offsets[2 * first] : offsets[2 * last + 1]]

    def result(self, shares: list[Any]) -> Evaluation:
        answers = sorted((answer for share in shares for answer in share), key=lambda answer: answer[0])
        losses = [loss for *_, loss in answers if loss is not None]
        count = max(1, len(answers))
        metrics = {
            "exactMatch": sum(max(float(normal(a) == normal(r)) for r in right) for _, a, right, _ in answers) / count,
            "f1": sum(max(word_f1(a, r) for r in right) for _, a, right, _ in answers) / count,
            "loss": sum(losses) / max(1, len(losses)),
        }
        shown = [{"answer": answer, "right": right} for _, answer, right, _ in answers[:SHOWN]]
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
