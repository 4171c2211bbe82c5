"""Evaluates on held-out data, each example exactly once over all ranks."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from finetune_trainer.data.encoded import Encoded
from finetune_trainer.loop.forward import precision_context
from finetune_trainer.metrics.scores import Evaluation
from finetune_trainer.ranks import Ranks
from finetune_trainer.tasks.task import Task


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

    def evaluate(self, model: Any, encoded: Encoded) -> Evaluation:
        """Metrics over the whole of `encoded`; every rank calls it with the same and gets the same."""
        rows = self.task.rows(encoded, self.max_length)
        scores = self.task.scores(self.labels, self.processor, encoded)
        collate = self.task.collator(self.processor)
        training = model.training
        model.eval()
        with torch.no_grad(), precision_context(self.precision, self.device):
            for chosen, counts in self._own_batches(encoded, rows):
                batch = collate(encoded, [rows[i] for i in chosen]).to(self.device)
                predictions = self.task.predictions(model, batch)
                if counts:
                    scores.add(predictions, batch, chosen)
        model.train(training)
        shares = self.ranks.gather(scores.share())
        return self.ranks.broadcast(scores.result(shares) if self.ranks.rank == 0 else None)

    def _own_batches(self, encoded: Encoded, rows: list[list[int]]) -> list[tuple[np.ndarray, bool]]:
        """This rank's batches, and whether they count.

        Longest first: memory runs out at once or never. Neighbours go to different ranks. Where weights are sharded a
        forward pass needs every rank: one that has a batch less than others repeats the shortest, which does not count.
        """
        lengths = np.asarray(encoded.lengths)
        order = np.argsort([-int(lengths[row].sum()) for row in rows], kind="stable")
        batches = [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        world = self.ranks.world_size
        places = range(self.ranks.rank, math.ceil(len(batches) / world) * world, world)
        return [(batches[min(place, len(batches) - 1)], place < len(batches)) for place in places]
