"""From a model of transformers to a .tflite file, compared on real examples before anybody uses it."""

import logging
import warnings
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from finetune_serving.tflite_model import MODEL_FILE, TfliteModel
from finetune_trainer.data.batches import Batch
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.postprocess.comparison import compared, outputs_of
from finetune_trainer.tasks.task import Task


class TensorsByName(nn.Module):
    """The names of inputs and outputs become those of the file's signature."""

    def __init__(self, model: Any, outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self._outputs = outputs

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        """Only the outputs of the task."""
        made = self.model(**inputs)
        return {name: getattr(made, name) for name in self._outputs}


def to_tflite(task: Task, model: Any, examples: list[Batch], length: int, folder: Path, tolerance: float) -> float:
    """Writes model.tflite, which takes one row, texts of `length` tokens; returns the greatest difference of an output.

    Raises:
        ConfigurationError: The model cannot be converted, or LiteRT's answers differ by more than `tolerance`.
    """
    _write_file(TensorsByName(model, outputs_of(task)).eval(), _one_row(examples[0], length), folder)
    model.config.save_pretrained(str(folder))
    return compared(task, model, TfliteModel(folder), examples, tolerance, "tflite")


def _write_file(model: TensorsByName, sample: dict[str, Tensor], folder: Path) -> None:
    import litert_torch

    logging.getLogger("jax").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            made = litert_torch.convert(model, sample_kwargs=sample)
        # Whatever its lowering raises: it has no class of its own.
        except (RuntimeError, ValueError, TypeError) as error:
            raise ConfigurationError(
                f"postprocess.tflite: LiteRT cannot convert a model of the type {model.model.config.model_type!r}: "
                f"{str(error).splitlines()[0]}; remove the step"
            ) from error
    made.export(str(folder / MODEL_FILE))


def _one_row(batch: Batch, length: int) -> dict[str, Tensor]:
    """Texts padded to `length`; pictures as they are."""
    return {
        name: functional.pad(tensor[:1], (0, length - tensor.shape[1])) if tensor.dim() == 2 else tensor[:1]
        for name, tensor in batch.inputs.items()
    }
