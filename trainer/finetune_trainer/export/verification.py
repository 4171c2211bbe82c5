"""Reads an artifact back and compares its answers with the trained model's, before anybody can use it."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftType
from torch import Tensor

from finetune_serving.adapters import as_served, read_adapter
from finetune_serving.multi_task_model import HEADS
from finetune_serving.padding import tell_padding
from finetune_trainer.data.batches import Batch
from finetune_trainer.errors import TrainerError, is_out_of_memory
from finetune_trainer.models.frozen_precision import FrozenPrecision, widened
from finetune_trainer.models.quantization import keep_format, loading_options, quantization_in
from finetune_trainer.tasks.task import Task

TOLERANCE = 1e-4
"""Greatest difference of a logit; float32 on the same device gives 0 or rounding."""
ROUNDED = 0.1
"""The same where the weights that an adapter is merged into are held in 16 bits, which rounds them once more."""


class ExportError(TrainerError):
    """What was written is not the model that was trained, nor would be if it were written again."""

    outcome = "ExportError"


def verify_export(
    folder: Path,
    base: Path | None,
    model: Any,
    task: Task,
    batch: Batch,
    frozen: FrozenPrecision,
    trust_remote_code: bool = False,
) -> float:
    """Loads `folder` (on `base`, for an adapter) and returns the greatest difference of its logits, in float32.

    An adapter is compared twice: as it was written, and as it is served, which is mostly merged into its base model.

    Raises:
        ExportError: It cannot be read back, or answers otherwise than `model`.
    """
    device = next(model.parameters()).device
    batch = batch.to(device)
    with _whole_float32():
        expected = _answers(task, model, batch)
        if device.type == "cuda" and quantization_in(model) is None:
            model.to("cpu")  # nobody computes with it any more, and a GPU may have no room for two
        with _read_back():
            again = reload(folder, base, task, model, frozen, trust_remote_code).to(device)
            difference = _difference("the exported model", _answers(task, again, batch), expected, TOLERANCE)
            if base is None:
                return difference
            exact = all(parameter.dtype == torch.float32 for parameter in again.parameters())
            served = as_served(again, quantized=quantization_in(model) is not None)
            answers = _answers(task, served, batch)
            _difference("the exported adapter, as it is served,", answers, expected, TOLERANCE if exact else ROUNDED)
    return difference


def _difference(what: str, answers: Tensor, expected: Tensor, tolerance: float) -> float:
    difference = float((answers - expected).abs().max())
    if not difference <= tolerance * max(1.0, float(expected.abs().max())):
        raise ExportError(
            f"{what} answers otherwise than the trained model: its logits differ by {difference:.3g}; "
            "nothing was published"
        )
    return difference


@contextmanager
def _read_back() -> Iterator[None]:
    """What the files themselves are to blame for; not memory, the disk or a device, which may do better next time."""
    try:
        yield
    except Exception as error:
        passing = isinstance(error, (torch.AcceleratorError, TrainerError)) or getattr(error, "errno", None)
        if passing or is_out_of_memory(error):
            raise
        words = f"{type(error).__name__}: {error}"
        raise ExportError(f"the exported model cannot be read back: {words}; nothing was published") from error


@contextmanager
def _whole_float32() -> Iterator[None]:
    """Without TensorFloat-32, whose rounding would make an adapter in the weights differ from one beside them."""
    matrices, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(matrices)
        torch.backends.cudnn.allow_tf32 = convolutions


def reload(
    folder: Path, base: Path | None, task: Task, model: Any, frozen: FrozenPrecision, trust_remote_code: bool
) -> Any:
    """The model from the files alone, as a server loads it; its base is rounded as that of the trained one is."""
    options: dict[str, Any] = {
        "dtype": torch.float32,
        "local_files_only": True,
        "trust_remote_code": trust_remote_code,
    }
    if base is None:
        return task.model_class.from_pretrained(str(folder), **options)
    if heads := getattr(model.config, HEADS, None):
        options["heads"] = heads
    elif task.heads:
        options["num_labels"] = model.config.num_labels
    quantized = loading_options(quantization_in(model), next(model.parameters()).device)
    with nullcontext() if quantized else frozen.reading():
        loaded = task.model_class.from_pretrained(str(base), ignore_mismatched_sizes=True, **options, **quantized)
    loaded = keep_format(frozen.settle(loaded))
    if PeftConfig.from_pretrained(str(folder)).peft_type == PeftType.ADALORA:
        # PEFT makes its matrices anew while it reads them, in the type of the base.
        loaded = loaded.float()
    tell_padding(loaded.config, getattr(model.config, "pad_token_id", None))
    return read_adapter(loaded, folder)


def _answers(task: Task, model: Any, batch: Batch) -> Tensor:
    training = model.training
    model.eval()
    with torch.no_grad(), widened(model):
        outputs = task.outputs(model, batch)
    model.train(training)
    return outputs
