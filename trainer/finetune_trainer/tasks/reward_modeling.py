"""A score for a completion, learnt from pairs of which one was preferred (Bradley and Terry 1952)."""

from collections.abc import Sequence
from typing import Any

import torch
from peft import TaskType
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForSequenceClassification
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from finetune_api.dataset import Columns
from finetune_trainer.data.batches import Batch, Collate
from finetune_trainer.data.encoded import Encoded, Features
from finetune_trainer.data.examples import Example
from finetune_trainer.data.reading import Row
from finetune_trainer.data.rows import RowOfExamples
from finetune_trainer.metrics.preferences import PairScores
from finetune_trainer.tasks.classes import CLASSIFIER_HEADS
from finetune_trainer.tasks.pairs import PAIR, encoded_completions, ids_column, stacked_ids
from finetune_trainer.tasks.preference_rows import PairReader
from finetune_trainer.tasks.text_task import TextTask


class RewardModeling(TextTask):
    """Columns `prompt`, `chosen` and `rejected`."""

    name = "RewardModeling"
    model_class = AutoModelForSequenceClassification
    model_types = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
    heads = CLASSIFIER_HEADS
    peft_type = TaskType.SEQ_CLS

    def __init__(self, columns: Columns) -> None:
        self._reader = PairReader(columns)

    def read(self, row: Row) -> Example:
        return self._reader.read(row)

    def configure(self, config: Any, processor: Any, labels: list[str]) -> None:
        super().configure(config, processor, labels)
        config.id2label, config.label2id = {0: "score"}, {"score": 0}

    def encode(self, examples: list[Example], processor: Any, labels: list[str]) -> list[Features]:
        encoded = (encoded_completions(example, processor, PAIR) for example in examples)
        return [_features([completions[role][0] for role in PAIR]) for completions in encoded]

    def truncate(
        self, example: Example, features: Features, processor: Any, labels: list[str], max_length: int
    ) -> Features:
        """Keeps the start of each text; a pair that differs only behind it has nothing to teach."""
        texts = [list(features.columns[ids_column(role)])[:max_length] for role in PAIR]
        return _features(texts)

    def collator(self, processor: Any) -> Collate:
        def collate(encoded: Encoded, rows: Sequence[RowOfExamples]) -> Batch:
            pairs = [row[0] for row in rows]
            texts = [encoded[ids_column(role)][i] for role in PAIR for i in pairs]
            inputs = stacked_ids(texts, processor.pad_token_id)
            return Batch(inputs, torch.arange(len(texts)), torch.ones(len(pairs)))

        return collate

    def outputs(self, model: Any, batch: Batch) -> Tensor:
        """Scores, (2 × pairs): of all that were preferred, then of all others."""
        scores: Tensor = model(**batch.inputs, **batch.options).logits
        return scores[:, 0]

    def loss_sum(self, model: Any, batch: Batch, label_smoothing: float) -> Tensor:
        """Each pair costs -log of the probability that its order has under the scores."""
        preferred, other = self.outputs(model, batch).float().chunk(2)
        ahead = preferred - other
        right = functional.logsigmoid(ahead) * (1 - label_smoothing)
        return -(right + functional.logsigmoid(-ahead) * label_smoothing).sum()

    def predictions(self, model: Any, batch: Batch) -> Tensor:
        return self.outputs(model, batch)

    def scores(self, labels: list[str], processor: Any, encoded: Encoded) -> PairScores:
        return PairScores(encoded)


def _features(texts: list[list[int]]) -> Features:
    chosen, rejected = texts
    columns = {ids_column(role): ids for role, ids in zip(PAIR, texts, strict=True)}
    return Features(columns, sum(map(len, texts)), int(chosen != rejected), max(map(len, texts)))
