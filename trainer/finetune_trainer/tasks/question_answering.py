"""Finds the answer to a question in a text."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
import torch
from peft import TaskType
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForQuestionAnswering
from transformers.models.auto.modeling_auto import MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES

from finetune_api.dataset import Columns
from finetune_serving.answer_spans import likeliest_spans
from finetune_serving.windows import TextRange, Window, null_place
from finetune_trainer.data.batches import Batch, Collate, padded_ids
from finetune_trainer.data.encoded import Encoded, Features
from finetune_trainer.data.examples import Example, column, text_column
from finetune_trainer.data.reading import Row
from finetune_trainer.data.rows import RowOfExamples
from finetune_trainer.errors import ConfigurationError, DataError
from finetune_trainer.metrics.answers import AnswerScores
from finetune_trainer.tasks.text_task import TextTask

PER_TOKEN = ("input_ids", "token_type_ids", "within")
"""Columns of one value a token."""
Span = tuple[int, int]
TRUE = torch.tensor(True)


class QuestionAnswering(TextTask):
    """Columns `question`, `context` and `answers`, as in SQuAD: {text: [...], answer_start: [...]}."""

    name = "QuestionAnswering"
    model_class = AutoModelForQuestionAnswering
    model_types = MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES
    heads = ("qa_outputs", "classifier", "head")  # the latter are ModernBERT's
    peft_type = TaskType.QUESTION_ANS

    def __init__(self, columns: Columns, windows: bool = False) -> None:
        """`windows`: long contexts are read in windows, which may say that the answer is in none of their tokens."""
        self._windows = windows
        self._question, self._context = columns.question or "question", columns.context or "context"
        self._answers = columns.answers or "answers"

    def read(self, row: Row) -> Example:
        question = text_column(row, self._question, "dataset.columns.question")
        context = text_column(row, self._context, "dataset.columns.context")
        answers = column(row, self._answers, "dataset.columns.answers")
        return Example((question, context), row.where, target=checked_answers(context, answers, row, self._answers))

    def check_tokenizer(self, tokenizer: Any) -> None:
        if not tokenizer.is_fast:
            raise ConfigurationError(
                "model.source: the tokenizer cannot tell which characters a token stands for; use a model with a "
                "tokenizer.json"
            )

    def configure(self, config: Any, processor: Any, labels: list[str]) -> None:
        """Two outputs a token: how well the answer begins there, and ends."""
        super().configure(config, processor, labels)
        config.num_labels = 2

    def encode(self, examples: list[Example], processor: Any, labels: list[str]) -> list[Features]:
        return _with_places(examples, processor)

    def truncate(
        self, example: Example, features: Features, processor: Any, labels: list[str], max_length: int
    ) -> Features:
        """Cuts the end of the context; an example that loses its answer has nothing left to learn.

        Where the question alone has no room, it is cut too, and nothing of the context is left.
        """
        if features.length - sum(features.columns["within"]) >= max_length:
            return _without_context(features, max_length)
        return _with_places([example], processor, truncation="only_second", max_length=max_length)[0]

    def pieces(
        self, example: Example, features: Features, processor: Any, labels: list[str], max_length: int
    ) -> list[Features]:
        """Overlapping windows over the context, each after the whole question.

        The answer of a window that does not have it is its token for "none". One that has but a part of the answer
        has nothing to learn. The first alone keeps the context and the right answers.
        """
        columns: Mapping[str, Any] = features.columns
        context = TextRange.of(processor(*example.content, verbose=False).sequence_ids(0), 1)
        try:
            windows = context.windows(features.length, max_length)
        except ValueError:
            raise DataError(
                f"{example.where}: the question alone takes {features.length - (context.end - context.start)} tokens "
                f"of dataset.maxLength ({max_length}); raise it or shorten the question"
            ) from None
        pieces: list[Features] = []
        for window in windows:
            shown = {name: context.shown(columns[name], window) for name in PER_TOKEN if name in columns}
            offsets = list(zip(columns["offsets"][::2], columns["offsets"][1::2], strict=True))
            shown["offsets"] = [character for pair in context.shown(offsets, window) for character in pair]
            answer = self._answer_in(window, context, features, null_place(shown["input_ids"], processor.cls_token_id))
            whole = {name: b"" if pieces else columns[name] for name in ("context", "answers")}
            length = len(shown["input_ids"])
            pieces.append(Features({**shown, **whole, "span": list(answer or (0, 0))}, length, int(bool(answer))))
        return pieces

    @staticmethod
    def _answer_in(window: Window, context: TextRange, features: Features, null: int) -> Span | None:
        """Its first and last token in the window; None where they are not known, or not both within."""
        first, last = map(int, features.columns["span"])
        if not features.targets:
            return None
        if window.start <= first and last < window.end:
            return context.start + first - window.start, context.start + last - window.start
        return None if window.start <= last and first < window.end else (null, null)

    def collator(self, processor: Any) -> Collate:
        def collate(encoded: Encoded, rows: Sequence[RowOfExamples]) -> Batch:
            examples = [row[0] for row in rows]
            ids, mask = padded_ids(encoded, examples, processor.pad_token_id)
            inputs = {"input_ids": ids, "attention_mask": mask}
            if "token_type_ids" in encoded.columns:
                inputs["token_type_ids"], _ = padded_ids(encoded, examples, 0, "token_type_ids")
            within, _ = padded_ids(encoded, examples, 0, "within")
            spans = torch.from_numpy(np.stack([encoded["span"][i] for i in examples]).astype(np.int64))
            extras = {"within": within.bool(), "candidates": within.bool()}
            if self._windows:
                nulls = [null_place(encoded["input_ids"][i].tolist(), processor.cls_token_id) for i in examples]
                extras["candidates"] = within.bool().index_put((torch.arange(len(nulls)), torch.tensor(nulls)), TRUE)
            return Batch(inputs, torch.arange(len(examples)), spans, extras=extras)

        return collate

    def outputs(self, model: Any, batch: Batch) -> Tensor:
        """Logits of the tokens of the contexts, (tokens, 2)."""
        return _logits(model, batch)[batch.extras["within"]]

    def loss_sum(self, model: Any, batch: Batch, label_smoothing: float) -> Tensor:
        return _losses(_logits(model, batch), batch, label_smoothing).sum()

    def predictions(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """First and last token of the likeliest answers, how likely they are, and the losses of the right ones."""
        logits = _logits(model, batch)
        spans, likely = likeliest_spans(logits, batch.extras["within"], batch.extras["candidates"])
        return spans, likely, _losses(logits, batch, 0.0)

    def scores(self, labels: list[str], processor: Any, encoded: Encoded) -> AnswerScores:
        return AnswerScores(encoded)


def checked_answers(context: str, answers: Any, row: Row, name: str) -> list[tuple[int, str]]:
    """First character and text of each right answer; the first is learnt.

    Raises:
        DataError: There is none, or one is not where it says.
    """
    texts = answers.get("text") if isinstance(answers, dict) else None
    starts = answers.get("answer_start") if isinstance(answers, dict) else None
    if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
        raise DataError(f"{row.where}: column {name!r} must be {{text: [...], answer_start: [...]}} of equal lengths")
    if not texts:
        raise DataError(
            f"{row.where}: column {name!r} has no answer; questions without one are not supported: remove it"
        )
    for start, text in zip(starts, texts, strict=True):
        if not isinstance(text, str) or not isinstance(start, int) or not text.strip():
            raise DataError(f"{row.where}: {name} holds {text!r} at {start!r}; an answer is a text and a number")
        if context[start : start + len(text)] != text:
            raise DataError(
                f"{row.where}: {name} says that {text!r} begins at character {start}, where the context has "
                f"{context[start : start + len(text)]!r}"
            )
    return list(zip(starts, texts, strict=True))


def _logits(model: Any, batch: Batch) -> Tensor:
    found = model(**batch.inputs)
    length = batch.inputs["input_ids"].shape[1]  # virtual tokens come before
    return torch.stack([found.start_logits[:, -length:], found.end_logits[:, -length:]], dim=-1).float()


def _losses(logits: Tensor, batch: Batch, label_smoothing: float) -> Tensor:
    """Mean of the losses of beginning and end, one a row; the classes are the tokens that may be either."""
    candidates = batch.extras["candidates"].unsqueeze(-1)
    # Finite, so that label smoothing does not multiply infinity with nothing.
    scores = logits.masked_fill(~candidates, -1e4)
    right = -functional.log_softmax(scores, dim=1).gather(1, batch.targets.unsqueeze(1)).squeeze(1)
    if not label_smoothing:
        return right.mean(dim=1)
    spread = (-functional.log_softmax(scores, dim=1) * candidates).sum(dim=1) / candidates.sum(dim=1)
    return ((1 - label_smoothing) * right + label_smoothing * spread).mean(dim=1)


def _with_places(examples: list[Example], tokenizer: Any, **options: Any) -> list[Features]:
    encoded = tokenizer(
        [e.content[0] for e in examples],
        [e.content[1] for e in examples],
        return_offsets_mapping=True,
        verbose=False,
        **options,
    )
    features = []
    for number, example in enumerate(examples):
        ids, offsets = encoded["input_ids"][number], encoded["offset_mapping"][number]
        within = [
            part == 1 and end > start for part, (start, end) in zip(encoded.sequence_ids(number), offsets, strict=True)
        ]
        span = _span(example.target[0], offsets, within)
        columns = {
            "input_ids": ids,
            "within": within,
            "span": list(span or (0, 0)),
            "offsets": [character for pair in offsets for character in pair],
            "context": example.content[1].encode(),
            "answers": orjson.dumps([text for _, text in example.target]),
        }
        if "token_type_ids" in encoded:
            columns["token_type_ids"] = encoded["token_type_ids"][number]
        features.append(Features(columns, len(ids), int(span is not None)))
    return features


def _without_context(features: Features, max_length: int) -> Features:
    """What has as many numbers as there are tokens loses the end."""
    columns = {
        **features.columns,
        "span": [0, 0],
        "within": [False] * max_length,
        "offsets": features.columns["offsets"][: 2 * max_length],
    }
    for name in ("input_ids", "token_type_ids"):
        if name in columns:
            columns[name] = columns[name][:max_length]
    return Features(columns, max_length, targets=0)


def _span(answer: tuple[int, str], offsets: list[tuple[int, int]], within: list[bool]) -> Span | None:
    """First and last token of the answer; None when it was cut off."""
    start, end = answer[0], answer[0] + len(answer[1])
    inside = [i for i, (a, b) in enumerate(offsets) if within[i] and a < end and b > start]
    whole = inside and offsets[inside[-1]][1] >= end
    return (inside[0], inside[-1]) if whole else None
