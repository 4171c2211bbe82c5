"""Entity precision, recall and F1, as seqeval and the CoNLL script count them: type and both ends must be right."""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from finetune_trainer.data.batches import Batch
from finetune_trainer.data.encoded import FIRST_PIECE, LABEL, NO_LABEL, Encoded
from finetune_trainer.metrics.scores import Evaluation

Span = tuple[int, int, str]
"""First word, word after the last, type."""


CUT = "cut_tags"
"""The column of the tags of words that had no room."""
Tag = str | None
"""None: of a word that was cut off, nothing is found."""


class Tagged(NamedTuple):
    """A row: its true tags, the predicted ones, the true ones that were cut off, and the sum of its losses."""

    row: int
    truth: list[int]
    found: list[int]
    cut: list[int]
    loss: float

    @classmethod
    def together(cls, windows: Sequence["Tagged"]) -> "Tagged":
        """The windows of one text, in order."""
        return cls(
            windows[0].row,
            [tag for window in windows for tag in window.truth],
            [tag for window in windows for tag in window.found],
            [tag for window in windows for tag in window.cut],
            sum(window.loss for window in windows),
        )


class EntityScores:
    """Keeps the tag of every word, never the logits."""

    def __init__(self, tags: list[str], encoded: Encoded, cut_before: bool = False) -> None:
        """`cut_before`: what had no room stood before the words that had."""
        self._tags = tags
        self._encoded = encoded
        self._cut_before = cut_before
        self._rows: list[np.ndarray] = []
        self._parts: list[tuple[Tensor, Tensor]] = []

    def add(self, predictions: Tensor, batch: Batch, rows: np.ndarray) -> None:
        """`predictions` are the logits of the words of the batch, row after row."""
        losses = torch.nn.functional.cross_entropy(predictions.float(), batch.targets, reduction="none")
        self._rows.append(rows)
        self._parts.append((predictions.argmax(dim=-1), losses.double()))

    def share(self) -> list[Tagged]:
        shares = []
        for rows, (tags, losses) in zip(self._rows, self._parts, strict=True):
            found, costs, start = tags.cpu().numpy(), losses.cpu().numpy(), 0
            for row in rows.tolist():
                truth = self._encoded[LABEL][row]
                truth = truth[truth != NO_LABEL]
                end = start + len(truth)
                cut = self._encoded[CUT][row].tolist()
                loss = float(costs[start:end].sum())
                shares.append(Tagged(row, truth.tolist(), found[start:end].tolist(), cut, loss))
                start = end
        return shares

    def result(self, shares: list[Any]) -> Evaluation:
        rows = self._joined(sorted(row for share in shares for row in share))
        truth = [self._named(self._whole(one.truth, one.cut)) for one in rows]
        found = [self._whole(self._named(one.found), [None] * len(one.cut)) for one in rows]
        return entity_metrics(truth, found, sum(one.loss for one in rows))

    def _joined(self, rows: list[Tagged]) -> list[Tagged]:
        """The windows of a text in one, each word of which is in one of them; `rows` are in order."""
        first = self._encoded.columns.get(FIRST_PIECE)
        if first is None:
            return rows
        texts = groupby(rows, key=lambda one: int(first[one.row][0]))
        return [Tagged.together(list(windows)) for _, windows in texts]

    def _named(self, tags: list[int]) -> list[str]:
        return [self._tags[tag] for tag in tags]

    def _whole(self, kept: list[Any], cut: list[Any]) -> list[Any]:
        return [*cut, *kept] if self._cut_before else [*kept, *cut]


def entity_metrics(truth: list[list[str]], found: Sequence[Sequence[Tag]], loss_sum: float) -> Evaluation:
    """Micro averages over all entities; `accuracy` is of words, most of which are in none.

    Words that were cut off count as wrong. `loss` is of the others.
    """
    right, expected, predicted = Counter[str](), Counter[str](), Counter[str]()
    for true_tags, found_tags in zip(truth, found, strict=True):
        true_spans, found_spans = set(spans(true_tags)), set(spans(found_tags))
        expected.update(span[2] for span in true_spans)
        predicted.update(span[2] for span in found_spans)
        right.update(span[2] for span in true_spans & found_spans)
    words = sum(map(len, truth))
    cut = sum(tag is None for row in found for tag in row)
    same = sum(a == b for row in zip(truth, found, strict=True) for a, b in zip(*row, strict=True))
    metrics = {
        **_ratios(right.total(), predicted.total(), expected.total()),
        "accuracy": same / max(1, words),
        "loss": loss_sum / max(1, words - cut),
    }
    kinds = {kind: _ratios(right[kind], predicted[kind], expected[kind]) for kind in sorted(expected | predicted)}
    details = {
        "words": words,
        "cutWords": cut,
        "perType": {kind: {**ratios, "entities": expected[kind]} for kind, ratios in kinds.items()},
    }
    return Evaluation(metrics, details)


def spans(tags: Sequence[Tag]) -> list[Span]:
    """Entities in IOB2 tags; an I- that continues nothing begins one."""
    found: list[Span] = []
    previous = "O"
    for place, known in enumerate(tags):
        tag = known or "O"
        if tag != "O":
            if tag.startswith("I-") and previous[2:] == tag[2:]:
                start, _, kind = found[-1]
                found[-1] = (start, place + 1, kind)
            else:
                found.append((place, place + 1, tag[2:]))
        previous = tag
    return found


def _ratios(right: int, predicted: int, expected: int) -> dict[str, float]:
    """0 where there is nothing to divide by, as seqeval has it."""
    precision, recall = right / max(1, predicted), right / max(1, expected)
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    return {"precision": precision, "recall": recall, "f1": f1}
