"""What tasks that make completions likelier or less likely than a frozen reference has them have in common."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from peft import TaskType
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from finetune_trainer.data.batches import Batch
from finetune_trainer.data.encoded import Encoded
from finetune_trainer.tasks.cross_entropy import CrossEntropy
from finetune_trainer.tasks.text_task import TextTask, require_end

REFERENCE = "reference"
"""The column, and the extra of a batch, of what the model said of each completion before it was trained."""


class PreferenceTask(CrossEntropy, TextTask):
    """Log-probabilities of whole completions, compared with those of the untrained model."""

    name = "PreferenceOptimization"
    model_class = AutoModelForCausalLM
    model_types = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    heads = ()
    peft_type = TaskType.CAUSAL_LM

    def check_tokenizer(self, tokenizer: Any) -> None:
        require_end(tokenizer)

    def log_probabilities(self, model: Any, batch: Batch) -> Tensor:
        """Of every completion, summed over its tokens: (rows,), by one call of the model."""
        logits = self.outputs(model, batch).float()
        each = -functional.cross_entropy(logits, batch.targets, reduction="none")
        shape = batch.inputs["input_ids"].shape
        # No two tokens share a place, so this sum is the same each time, on a GPU too.
        return each.new_zeros(shape.numel()).scatter(0, batch.positions, each).view(shape).sum(dim=1)

    def log_ratios(self, model: Any, batch: Batch) -> Tensor:
        """How much likelier each completion is than before training: differences of logarithms, (rows,)."""
        return self.log_probabilities(model, batch) - batch.extras[REFERENCE]


def with_reference(batch: Batch, encoded: Encoded, examples: list[int], places: Sequence[int] = (0, 1)) -> Batch:
    """With what is known of the untrained model: first of the first completion of each example, then of the second;
    or of those at some `places` alone."""
    if REFERENCE not in encoded.columns:  # while it is being found out
        return batch
    values = np.stack([encoded[REFERENCE][i] for i in examples], axis=1)
    chosen = torch.from_numpy(values[list(places)].ravel())
    return replace(batch, extras={**batch.extras, REFERENCE: chosen})
