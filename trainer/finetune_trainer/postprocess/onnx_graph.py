"""ONNX graphs by transformers' own exporter, which knows the caches and the sizes of images of its models."""

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from finetune_serving.onnx_session import MODEL_FILE
from finetune_trainer.errors import ConfigurationError


@contextmanager
def quiet_exporters() -> Iterator[None]:
    """They tell of every node."""
    for library in ("torch.onnx", "onnxscript", "onnx_ir", "transformers.exporters"):
        logging.getLogger(library).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def traced_graph(model: Any, inputs: dict[str, Any]) -> Any:
    """An onnx_ir.Model whose sizes are free where they can be; those of the inputs must be above 1.

    Raises:
        ConfigurationError: The model cannot be converted.
    """
    from transformers.exporters.exporter_onnx import OnnxConfig, OnnxExporter

    try:
        with quiet_exporters():
            return OnnxExporter().export(model, inputs, config=OnnxConfig(dynamic=True)).program
    # Whatever tracing and lowering raise: they have no class in common.
    except Exception as error:
        raise ConfigurationError(
            f"postprocess.onnx: transformers cannot convert a model of the type {model.config.model_type!r}: "
            f"{str(error).splitlines()[0]}; remove the step"
        ) from error


def save_graph(graph: Any, outputs: Iterable[str], folder: Path) -> None:
    """Writes model.onnx, and its weights beside it, with these outputs alone."""
    from transformers.exporters.exporter_onnx import OnnxExporter

    wanted = set(outputs)
    graph.graph.outputs[:] = [value for value in graph.graph.outputs if value.name in wanted]
    OnnxExporter.save_program(graph, folder / MODEL_FILE)
