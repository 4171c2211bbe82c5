"""The loss of tasks that choose one of several classes, or one token of the vocabulary."""

from typing import Any

from torch import Tensor
from torch.nn import functional

from finetune_api.distillation import Distillation
from finetune_trainer.data.batches import SOFT_LABELS, Batch
from finetune_trainer.data.sampling import CLASS_WEIGHTS
from finetune_trainer.tasks.distillation import with_teacher
from finetune_trainer.tasks.token_teacher import TokenTeacher


class CrossEntropy:
    """Logits at the batch's positions against its targets, and what a teacher says of them."""

    distillation: Distillation | None = None
    teacher: TokenTeacher | None = None
    """Asked for each batch, where its answers are not among the data."""

    def outputs(self, model: Any, batch: Batch) -> Tensor:
        """Logits of the predictions that count, one a row."""
        logits: Tensor = model(**batch.inputs, **batch.options).logits
        return at_positions(logits, batch)

    def loss_sum(self, model: Any, batch: Batch, label_smoothing: float) -> Tensor:
        logits = self.outputs(model, batch).float()
        weights = batch.extras.get(CLASS_WEIGHTS)
        reduction = "sum" if weights is None else "none"
        loss = functional.cross_entropy(logits, batch.targets, reduction=reduction, label_smoothing=label_smoothing)
        if weights is not None:
            # PyTorch's own weights would also weigh what smoothing gives to each class: all would learn the rarest one.
            loss = (loss * weights[batch.targets]).sum()
        if self.distillation is None:
            return loss
        answers = self.teacher.logits(batch) if self.teacher else batch.extras[SOFT_LABELS]
        return with_teacher(loss, logits, answers, self.distillation)

    def predictions(self, model: Any, batch: Batch) -> Any:
        return self.outputs(model, batch)


def at_positions(values: Tensor, batch: Batch) -> Tensor:
    """Those of the predictions that count, one a row, of (rows, features) or of (rows, width, features)."""
    if values.ndim == 3 and "input_ids" in batch.inputs:
        # Prompt tuning puts tokens of its own before the text; nothing is predicted from all but the last of them.
        text = batch.inputs.get("decoder_input_ids", batch.inputs["input_ids"])
        values = values[:, -text.shape[1] :]
    return values.flatten(0, -2).index_select(0, batch.positions)
