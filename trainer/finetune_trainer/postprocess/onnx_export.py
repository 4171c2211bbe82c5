"""From a model of transformers to ONNX, compared on real examples before anybody uses it."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from finetune_serving.onnx_model import OnnxModel
from finetune_serving.onnx_session import MODEL_FILE
from finetune_trainer.data.batches import Batch
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.postprocess.comparison import compared, outputs_of
from finetune_trainer.postprocess.onnx_graph import quiet_exporters, save_graph, traced_graph
from finetune_trainer.tasks.task import Task

LARGE = 1_500_000_000
"""Bytes of weights beyond which they go into a file of their own: one of ONNX holds 2 GB."""


class TensorsOnly(nn.Module):
    """A graph has tensors for outputs, no classes of transformers."""

    def __init__(self, model: Any, batch: Batch, outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self._inputs, self._options, self._outputs = list(batch.inputs), batch.options, outputs

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Inputs in the order of the batch's."""
        made = self.model(**dict(zip(self._inputs, inputs, strict=True)), **self._options)
        return tuple(getattr(made, name) for name in self._outputs)


def to_onnx(task: Task, model: Any, examples: list[Batch], folder: Path, tolerance: float) -> float:
    """Writes model.onnx, whose batch size and length are free; returns the greatest difference of an output.

    torch.export traces it. The older tracing of TorchScript bakes the length of its example into the attention mask
    of transformers 5, and then answers wrongly for every other one.

    Raises:
        ConfigurationError: The model cannot be converted, or onnxruntime's answers differ by more than `tolerance`.
    """
    sample = traced(examples)
    if task.name == "ObjectDetection":  # images of any size
        save_graph(traced_graph(model, dict(sample.inputs)), outputs_of(task), folder)
    else:
        _write_graph(model, sample, outputs_of(task), folder)
    model.config.save_pretrained(str(folder))
    return compared(task, model, OnnxModel(folder), examples, tolerance, "onnx")


def traced(examples: list[Batch]) -> Batch:
    """The batch with the most rows: of a size of 1 the exporter would make a constant."""
    most = max(examples, key=lambda batch: len(next(iter(batch.inputs.values()))))
    if "items" not in most.inputs:
        return most
    items = most.inputs["items"]
    return Batch(most.inputs | {"items": torch.cat([items, items.flip(0)], dim=1)}, most.positions, most.targets)


def _write_graph(model: Any, sample: Batch, outputs: tuple[str, ...], folder: Path) -> None:
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    with quiet_exporters():
        try:
            torch.onnx.export(
                TensorsOnly(model, sample, outputs),
                tuple(sample.inputs.values()),
                folder / MODEL_FILE,
                dynamo=True,
                input_names=list(sample.inputs),
                output_names=list(outputs),
                dynamic_shapes=(_free_sizes(sample.inputs),),
                external_data=weights > LARGE,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise ConfigurationError(
                f"postprocess.onnx: torch.onnx cannot convert a model of the type {model.config.model_type!r}: "
                f"{str(error).splitlines()[0]}; remove the step"
            ) from error


def _free_sizes(inputs: dict[str, Tensor]) -> tuple[dict[int, Any], ...]:
    """Rows, and what goes with the length of a text or a recording; an image or a spectrogram has one size."""
    batch, length = torch.export.Dim("batch", min=1), torch.export.Dim("length", min=2)
    # Convolutions over samples want a length of some pattern, which the exporter finds out by itself.
    second = torch.export.Dim.DYNAMIC if "input_values" in inputs else length
    return tuple({0: batch} | ({1: second} if tensor.dim() == 2 else {}) for tensor in inputs.values())
