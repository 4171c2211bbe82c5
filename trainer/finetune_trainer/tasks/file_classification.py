"""What tasks have in common that give a whole file, such as an image or a recording, one class."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch
from peft import TaskType
from torch import Tensor

from finetune_trainer.data.batches import AlteringCollate, Batch, Collate, Draws
from finetune_trainer.data.encoded import Encoded
from finetune_trainer.data.parts import Parts
from finetune_trainer.metrics.classification import ClassScores
from finetune_trainer.processors import usable_processors
from finetune_trainer.tasks.classes import CLASSIFIER_HEADS, known_labels, name_classes
from finetune_trainer.tasks.cross_entropy import CrossEntropy

FILE = "file"
"""The column of paths."""


class FileClassification(CrossEntropy):
    """Files are read for each batch, by several threads."""

    reads_files = True
    heads: tuple[str, ...] = CLASSIFIER_HEADS
    peft_type: TaskType | None = None
    alters = False
    """Whether training examples are altered each time that they come."""

    def inputs(
        self, encoded: Encoded, examples: list[int], processor: Any, draws: Sequence[Draws], readers: ThreadPoolExecutor
    ) -> dict[str, Tensor]:
        """The model's inputs, one row an example; altered by one of `draws` each, or not when they are None."""
        raise NotImplementedError

    def labels(self, parts: Parts) -> list[str]:
        return known_labels(parts)

    def configure(self, config: Any, processor: Any, labels: list[str]) -> None:
        name_classes(config, labels)
        config.problem_type = "single_label_classification"

    def rows(self, encoded: Encoded, max_length: int) -> list[list[int]]:
        return [[index] for index in range(len(encoded))]

    def collator(self, processor: Any) -> Collate:
        collate = self._collate(processor)
        return lambda encoded, rows: collate(encoded, rows, [None] * len(rows))

    def altering_collator(self, processor: Any) -> AlteringCollate | None:
        return self._collate(processor) if self.alters else None

    def scores(self, labels: list[str], processor: Any, encoded: Encoded) -> ClassScores:
        return ClassScores(labels)

    def _collate(self, processor: Any) -> AlteringCollate:
        return partial(self._batch, processor, ThreadPoolExecutor(min(8, usable_processors()), self.__class__.__name__))

    def _batch(
        self,
        processor: Any,
        readers: ThreadPoolExecutor,
        encoded: Encoded,
        rows: list[list[int]],
        draws: Sequence[Draws],
    ) -> Batch:
        assert encoded.labels is not None
        examples = [row[0] for row in rows]
        inputs = self.inputs(encoded, examples, processor, draws, readers)
        targets = torch.from_numpy(np.asarray(encoded.labels[examples], dtype=np.int64))
        return Batch(inputs, torch.arange(len(examples)), targets)


def file_of(encoded: Encoded, example: int) -> str:
    """Path of an example's file."""
    return bytes(encoded[FILE][example].tobytes()).decode()
