"""ONNX graphs by transformers' own exporter, which knows the caches and the sizes of images of its models."""

import logging
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from finetune_serving.cached_graph import KEPT, KINDS, MADE
from finetune_serving.onnx_session import MODEL_FILE
from finetune_trainer.errors import ConfigurationError

CACHED = re.compile(r"(?:input\.|output\.)?past_key_values\.layers\.(\d+)\.(keys|values)")
"""What transformers calls the inputs and outputs of a graph that hold keys and values."""


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


def rename_cache(graph: Any) -> Any:
    """The same, with the names of keys and values that the server looks for."""
    for values, names in ((graph.graph.inputs, KEPT), (graph.graph.outputs, MADE)):
        for value in values:
            if found := CACHED.fullmatch(value.name):
                value.name = names.format(found[1], KINDS[found[2] == "values"])
    return graph


def save_graph(graph: Any, outputs: Iterable[str], folder: Path, file: str = MODEL_FILE) -> None:
    """Writes it, and its weights beside it, with these outputs alone."""
    from transformers.exporters.exporter_onnx import OnnxExporter

    wanted = set(outputs)
    graph.graph.outputs[:] = [value for value in graph.graph.outputs if value.name in wanted]
    OnnxExporter.save_program(graph, folder / file)
