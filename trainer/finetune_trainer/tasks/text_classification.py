"""One class for a whole text."""

from typing import Any

from transformers import AutoModelForSequenceClassification

from finetune_api.dataset import Columns
from finetune_trainer.data.batches import Batch, classification_batch
from finetune_trainer.data.encoded import Encoded
from finetune_trainer.data.examples import Example, label_column, text_column
from finetune_trainer.data.reading import Row
from finetune_trainer.data.split import Parts
from finetune_trainer.errors import DataError
from finetune_trainer.metrics.classification import ClassScores
from finetune_trainer.tasks.task import Tokens


class TextClassification:
    """Columns `text` and `label`."""

    name = "TextClassification"
    model_class = AutoModelForSequenceClassification

    def __init__(self, columns: Columns) -> None:
        self._text = columns.text or "text"
        self._label = columns.label or "label"

    def read(self, row: Row) -> Example:
        return Example(
            content=text_column(row, self._text, "dataset.columns.text"),
            where=row.where,
            label=label_column(row, self._label, "dataset.columns.label"),
        )

    def labels(self, parts: Parts) -> list[str]:
        known = sorted({str(e.label) for e in parts.train})
        if len(known) < 2:
            raise DataError(f"dataset.train: every example has the label {known[0]!r}; a classifier needs at least two")
        for part in (parts.validation, parts.test):
            for example in part:
                if example.label not in known:
                    raise DataError(
                        f"{example.where}: the label {example.label!r} is in no training example, so the model "
                        f"cannot learn it; training has: {', '.join(known[:20])}"
                    )
        return known

    def check_tokenizer(self, tokenizer: Any) -> None:
        """Any tokenizer will do."""

    def tokenise(self, examples: list[Example], tokenizer: Any) -> list[Tokens]:
        ids = tokenizer([e.content for e in examples], truncation=False, verbose=False)["input_ids"]
        return [Tokens(row) for row in ids]

    def truncate(self, example: Example, tokens: Tokens, tokenizer: Any, max_length: int) -> Tokens:
        """By the tokenizer, which keeps its closing special token."""
        return Tokens(tokenizer(example.content, truncation=True, max_length=max_length)["input_ids"])

    def rows(self, encoded: Encoded, max_length: int) -> list[list[int]]:
        return [[index] for index in range(len(encoded))]

    def batch(self, encoded: Encoded, rows: list[list[int]], pad: int) -> Batch:
        return classification_batch(encoded, [row[0] for row in rows], pad)

    def scores(self, labels: list[str]) -> ClassScores:
        return ClassScores(labels)
