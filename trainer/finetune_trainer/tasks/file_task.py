"""What tasks have in common whose rows name a file, such as an image or a recording."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from peft import TaskType

from finetune_trainer.data.batches import AlteringCollate, Batch, Collate, Draws
from finetune_trainer.data.encoded import Encoded
from finetune_trainer.data.rows import RowOfExamples, Rows
from finetune_trainer.processors import usable_processors

FILE = "file"
"""The column of paths."""


class FileTask:
    """Files are read for each batch, by several threads."""

    reads_files = True
    peft_type: TaskType | None = None
    alters = False
    """Whether training examples are altered each time that they come."""

    def batch(
        self, encoded: Encoded, examples: list[int], processor: Any, draws: Sequence[Draws], readers: ThreadPoolExecutor
    ) -> Batch:
        """One row an example; altered by one of `draws` each, or not when they are None."""
        raise NotImplementedError

    def rows(self, encoded: Encoded, max_length: int) -> Rows:
        return Rows.of_one(np.arange(len(encoded)))

    def collator(self, processor: Any) -> Collate:
        collate = self._collate(processor)
        return lambda encoded, rows: collate(encoded, rows, [None] * len(rows))

    def altering_collator(self, processor: Any) -> AlteringCollate | None:
        return self._collate(processor) if self.alters else None

    def _collate(self, processor: Any) -> AlteringCollate:
        return partial(self._batch, processor, ThreadPoolExecutor(min(8, usable_processors()), self.__class__.__name__))

    def _batch(
        self,
        processor: Any,
        readers: ThreadPoolExecutor,
        encoded: Encoded,
        rows: Sequence[RowOfExamples],
        draws: Sequence[Draws],
    ) -> Batch:
        return self.batch(encoded, [row[0] for row in rows], processor, draws, readers)


def file_of(encoded: Encoded, example: int) -> str:
    """Path of an example's file."""
    return bytes(encoded[FILE][example].tobytes()).decode()
