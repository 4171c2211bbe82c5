"""Evaluates on held-out data, each example exactly once over all ranks."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from finetune_trainer.data.encoded import Encoded
from finetune_trainer.loop.forward import precision_context, selected_logits
from finetune_trainer.metrics.scores import Evaluation
from finetune_trainer.ranks import Ranks
from finetune_trainer.tasks.task import Task


@dataclass(frozen=True)
class Evaluator:
    """What every evaluation of a run has in common."""

    task: Task
    labels: list[str]
    max_length: int
    batch_size: int
    pad: int
    precision: str
    device: torch.device
    ranks: Ranks

    def evaluate(self, model: Any, encoded: Encoded) -> Evaluation:
        """Metrics over the whole of `encoded`; every rank calls it with the same and gets the same."""
        rows = self.task.rows(encoded, self.max_length)
        scores = self.task.scores(self.labels)
        training = model.training
        model.eval()
        with torch.no_grad(), precision_context(self.precision, self.device):
            for chosen in self._own_batches(encoded, rows):
                batch = self.task.batch(encoded, [rows[i] for i in chosen], self.pad).to(self.device)
                scores.add(selected_logits(model, batch), batch, chosen)
        model.train(training)
        return scores.result(self.ranks.gather(scores.share()))

    def _own_batches(self, encoded: Encoded, rows: list[list[int]]) -> list[np.ndarray]:
        """Longest first: memory runs out at once or never. Neighbours go to different ranks."""
        lengths = np.asarray(encoded.lengths)
        order = np.argsort([-int(lengths[row].sum()) for row in rows], kind="stable")
        batches = [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        return batches[self.ranks.rank :: self.ranks.world_size]
