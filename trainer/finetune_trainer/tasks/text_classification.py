"""One class for a whole text."""

from typing import Any

from peft import TaskType
from transformers import AutoModelForSequenceClassification
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from finetune_api.dataset import Columns
from finetune_trainer.data.batches import SOFT_LABELS, Collate, classification_batch
from finetune_trainer.data.encoded import LABEL, Encoded, Features
from finetune_trainer.data.examples import Example, label_column, text_column
from finetune_trainer.data.parts import Parts
from finetune_trainer.data.reading import Row
from finetune_trainer.metrics.classification import ClassScores
from finetune_trainer.tasks.classes import CLASSIFIER_HEADS, known_labels, name_classes
from finetune_trainer.tasks.cross_entropy import CrossEntropy
from finetune_trainer.tasks.text_task import TextTask


class TextClassification(CrossEntropy, TextTask):
    """Columns `text` and `label`."""

    name = "TextClassification"
    model_class = AutoModelForSequenceClassification
    model_types = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
    heads = CLASSIFIER_HEADS
    peft_type = TaskType.SEQ_CLS

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
        return known_labels(parts)

    def configure(self, config: Any, processor: Any, labels: list[str]) -> None:
        super().configure(config, processor, labels)
        name_classes(config, labels)
        config.problem_type = "single_label_classification"

    def encode(self, examples: list[Example], processor: Any, labels: list[str]) -> list[Features]:
        rows = processor([e.content for e in examples], truncation=False, verbose=False)["input_ids"]
        places = {label: index for index, label in enumerate(labels)}
        return [_features(ids, places[str(e.label)], e) for ids, e in zip(rows, examples, strict=True)]

    def truncate(
        self, example: Example, features: Features, processor: Any, labels: list[str], max_length: int
    ) -> Features:
        """By the tokenizer, which keeps its closing special token."""
        ids = processor(example.content, truncation=True, max_length=max_length)["input_ids"]
        return _features(ids, labels.index(str(example.label)), example)

    def collator(self, processor: Any) -> Collate:
        return lambda encoded, rows: classification_batch(encoded, [row[0] for row in rows], processor.pad_token_id)

    def scores(self, labels: list[str], processor: Any, encoded: Encoded) -> ClassScores:
        return ClassScores(labels)


def _features(ids: list[int], label: int, example: Example) -> Features:
    taught = {} if example.soft_label is None else {SOFT_LABELS: example.soft_label}
    return Features({"input_ids": ids, LABEL: [label], **taught}, len(ids))
