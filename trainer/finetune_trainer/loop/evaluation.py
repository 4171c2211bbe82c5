"""Evaluates on held-out data, each example exactly once over all ranks."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from finetune_trainer.data.batches import Batch
from finetune_trainer.data.encoded import Encoded
from finetune_trainer.data.rows import Rows
from finetune_trainer.loop.forward import precision_context
from finetune_trainer.metrics.scores import Evaluation
from finetune_trainer.ranks import Ranks
from finetune_trainer.tasks.task import Task

Compute = Callable[[Any, Batch], Any]
"""What is asked of a model for each batch."""


class EvaluationStopped(Exception):
    """It may take longer than whoever asks for a stop will wait."""


@dataclass(frozen=True)
class Evaluator:
    """What every evaluation of a run has in common."""

    task: Task
    labels: list[str]
    processor: Any
    max_length: int
    batch_size: int
    precision: str
    device: torch.device
    ranks: Ranks

    def evaluate(self, model: Any, encoded: Encoded, stop: Callable[[], bool] = lambda: False) -> Evaluation:
        """Metrics over the whole of `encoded`; every rank calls it with the same and gets the same.

        Raises EvaluationStopped once `stop`, asked before each batch, says so; it must say the same on every rank.
        """
        scores = self.task.scores(self.labels, self.processor, encoded)
        self._compute(model, encoded, self.task.predictions, scores.add, stop)
        shares = self.ranks.gather(scores.share())
        return self.ranks.broadcast(scores.result(shares) if self.ranks.rank == 0 else None)

    def per_example(self, model: Any, encoded: Encoded, compute: Compute) -> np.ndarray:
        """`compute(model, batch)`, (values × examples,), for all examples: (examples, values), on every rank."""
        own: list[tuple[np.ndarray, Tensor]] = []
        self._compute(model, encoded, compute, lambda values, _, rows: own.append((rows, values.view(-1, len(rows)))))
        shares = self.ranks.gather([(rows, values.T.float().cpu().numpy()) for rows, values in own])
        parts = [part for share in shares for part in share]
        order = np.argsort(np.concatenate([rows for rows, _ in parts]))
        return np.ascontiguousarray(np.concatenate([values for _, values in parts])[order])

    def _compute(
        self,
        model: Any,
        encoded: Encoded,
        compute: Compute,
        add: Callable[[Any, Batch, np.ndarray], None],
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        rows = self.task.rows(encoded, self.max_length)
        collate = self.task.collator(self.processor)
        training = model.training
        model.eval()
        try:
            with torch.no_grad(), precision_context(self.precision, self.device):
                for chosen, counts in self._own_batches(encoded, rows):
                    if stop():
                        raise EvaluationStopped
                    batch = collate(encoded, [rows[i] for i in chosen]).to(self.device)
                    result = compute(model, batch)
                    if counts:
                        add(result, batch, chosen)
        finally:
            model.train(training)

    def _own_batches(self, encoded: Encoded, rows: Rows) -> list[tuple[np.ndarray, bool]]:
        """This rank's batches, and whether they count.

        Longest first: memory runs out at once or never. Neighbours go to different ranks. Where weights are sharded a
        forward pass needs every rank: one that has a batch less than others repeats the shortest, which does not count.
        """
        order = np.argsort(-rows.sums(encoded.lengths), kind="stable")
        batches = [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        world = self.ranks.world_size
        places = range(self.ranks.rank, math.ceil(len(batches) / world) * world, world)
        return [(batches[min(place, len(batches) - 1)], place < len(batches)) for place in places]
