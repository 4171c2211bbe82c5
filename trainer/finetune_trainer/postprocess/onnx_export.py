"""From a model of transformers to ONNX, compared on real examples before anybody uses it."""

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from finetune_serving.onnx_model import MODEL_FILE, OnnxModel
from finetune_trainer.data.batches import Batch
from finetune_trainer.errors import ConfigurationError

LARGE = 1_500_000_000
"""Bytes of weights beyond which they go into a file of their own: one of ONNX holds 2 GB."""


class LogitsOnly(nn.Module):
    """A graph has tensors for outputs, no classes of transformers."""

    def __init__(self, model: Any, names: list[str]) -> None:
        super().__init__()
        self.model = model
        self._names = names

    def forward(self, *inputs: Tensor) -> Tensor:
        """In the order of `names`."""
        logits: Tensor = self.model(**dict(zip(self._names, inputs, strict=True))).logits
        return logits


def to_onnx(model: Any, examples: list[Batch], folder: Path, tolerance: float) -> float:
    """Writes model.onnx, whose batch size and length are free; returns the greatest difference of a logit.

    torch.export traces it. The older tracing of TorchScript bakes the length of its example into the attention mask
    of transformers 5, and then answers wrongly for every other one.

    Raises:
        ConfigurationError: The model cannot be converted, or onnxruntime's answers differ by more than `tolerance`.
    """
    _write_graph(model, max(examples, key=lambda batch: len(batch.inputs["input_ids"])), folder)
    model.config.save_pretrained(str(folder))
    difference = greatest_difference(model, OnnxModel(folder), examples)
    if not difference <= tolerance:
        raise ConfigurationError(
            f"postprocess.onnx: the converted model answers otherwise: its logits differ by {difference:.3g}, and "
            f"tolerance allows {tolerance:g}; raise tolerance if the gates on its metrics suffice, or remove the step"
        )
    return difference


def _write_graph(model: Any, sample: Batch, folder: Path) -> None:
    names = list(sample.inputs)
    batch, length = torch.export.Dim("batch", min=1), torch.export.Dim("length", min=2)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    for library in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(library).setLevel(logging.ERROR)  # they tell of every node
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                LogitsOnly(model, names),
                tuple(sample.inputs.values()),
                folder / MODEL_FILE,
                dynamo=True,
                input_names=names,
                output_names=["logits"],
                dynamic_shapes=(tuple({0: batch, 1: length} for _ in names),),
                external_data=weights > LARGE,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise ConfigurationError(
                f"postprocess.onnx: torch.onnx cannot convert a model of the type {model.config.model_type!r}: "
                f"{str(error).splitlines()[0]}; remove the step"
            ) from error


def greatest_difference(model: Any, converted: OnnxModel, examples: list[Batch]) -> float:
    """Of a logit, over all examples."""
    with torch.no_grad():
        return max(
            float((model(**batch.inputs).logits - converted(**batch.inputs).logits).abs().max()) for batch in examples
        )
