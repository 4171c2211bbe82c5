"""What tasks have in common that give a whole file, such as an image or a recording, one class."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from finetune_trainer.data.batches import Batch, Draws
from finetune_trainer.data.encoded import Encoded
from finetune_trainer.data.parts import Parts
from finetune_trainer.metrics.classification import ClassScores
from finetune_trainer.tasks.classes import CLASSIFIER_HEADS, known_labels, name_classes
from finetune_trainer.tasks.cross_entropy import CrossEntropy
from finetune_trainer.tasks.file_task import FileTask


class FileClassification(CrossEntropy, FileTask):
    """One label a file."""

    heads: tuple[str, ...] = CLASSIFIER_HEADS

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

    def scores(self, labels: list[str], processor: Any, encoded: Encoded) -> ClassScores:
        return ClassScores(labels)

    def batch(
        self, encoded: Encoded, examples: list[int], processor: Any, draws: Sequence[Draws], readers: ThreadPoolExecutor
    ) -> Batch:
        assert encoded.labels is not None
        inputs = self.inputs(encoded, examples, processor, draws, readers)
        targets = torch.from_numpy(np.asarray(encoded.labels[examples], dtype=np.int64))
        return Batch(inputs, torch.arange(len(examples)), targets)
