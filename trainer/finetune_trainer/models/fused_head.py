"""The last layer of a language model and its loss in one: logits of a few positions at a time, never all.

The logits of 8 × 4096 tokens over a vocabulary of 152,000 take 18 GiB in float32, several times over with their
gradients. Positions that teach nothing, such as those of prompts, get no logits at all.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from finetune_trainer.data.batches import Batch
from finetune_trainer.models.linear_cross_entropy import linear_cross_entropy_sum
from finetune_trainer.ranks import Ranks
from finetune_trainer.tasks.cross_entropy import CrossEntropy
from finetune_trainer.tasks.task import Task

log = logging.getLogger(__name__)

TOLERANCE = 1e-3
"""Relative, of the loss on one batch, between whole logits and pieces: more means that the model changes its logits."""


class FusedHead:
    """Computes the summed cross-entropy of a batch inside the model's own forward pass.

    Inside, where wrappers such as DDP, FSDP2 and ZeRO-3 have the head's weights at hand: for the time of one call the
    head gives the loss in place of the logits.
    """

    def __init__(self, head: nn.Linear) -> None:
        self._head = head

    def loss_sum(self, model: Any, batch: Batch) -> Tensor:
        """As the task's own, without label smoothing and class weights."""
        with self._learning(batch):
            loss: Tensor = model(**batch.inputs, **batch.options).logits
        return loss.squeeze()

    @contextmanager
    def _learning(self, batch: Batch) -> Iterator[None]:
        text = batch.inputs.get("decoder_input_ids", batch.inputs["input_ids"])

        def forward(hidden: Tensor) -> Tensor:
            # Prompt tuning puts tokens of its own before the text; nothing is predicted from all but the last of them.
            hidden = hidden[:, -text.shape[1] :].flatten(0, -2).index_select(0, batch.positions)
            loss = linear_cross_entropy_sum(hidden, self._head.weight, self._head.bias, batch.targets)
            return loss.reshape(1, 1, 1)

        self._head.forward = forward  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            del self._head.forward


def fused_head(model: Any, task: Task, some: Callable[[], Batch], ranks: Ranks) -> FusedHead | None:
    """The head of a model that predicts tokens of its own vocabulary; None where its loss must be made of logits.

    Whether nothing lies between the head and the logits, such as Gemma's soft cap or Granite's scale, is not asked of
    a list of models but tried out on `some` batch, by rank 0, which has the weights.
    """
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    head = base.get_output_embeddings() if hasattr(base, "get_output_embeddings") else None
    of_tokens = getattr(type(task), "loss_sum", None) is CrossEntropy.loss_sum and not task.heads
    # Not an adapter around a layer, nor one whose forward something else has replaced.
    if not of_tokens or type(head) is not nn.Linear or "forward" in vars(head):
        return None
    fused = FusedHead(head)
    if not ranks.broadcast(_same_loss(fused, model, task, some()) if ranks.rank == 0 else None):
        log.info("the model changes its logits after the last layer, so the loss is computed of all of them at once")
        return None
    return fused


def _same_loss(fused: FusedHead, model: Any, task: Task, batch: Batch) -> bool:
    training = model.training
    model.eval()
    with torch.no_grad():
        whole = task.loss_sum(model, batch, 0.0)
        loss = fused.loss_sum(model, batch)
    model.train(training)
    # BART and its like add a bias of each token of the vocabulary to what the head gives, here to the one loss.
    return loss.numel() == 1 and bool(torch.isclose(loss.double(), whole.double(), rtol=TOLERANCE))
