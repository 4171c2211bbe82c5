"""From a model that writes to one ONNX graph, which takes new tokens and what is kept of those before them."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from finetune_serving.onnx_writer import OnnxWriter
from finetune_trainer.data.batches import Batch
from finetune_trainer.postprocess.comparison import written_and_compared
from finetune_trainer.postprocess.onnx_graph import rename_cache, save_graph, traced_graph
from finetune_trainer.tasks.task import Task

SAMPLE = (2, 4, 3)
"""Rows, tokens before and new tokens that the graph is traced with: of a size of 1 a constant would be made."""
STEPS = 6
"""Tokens that are compared one by one."""


def to_onnx_writer(task: Task, model: Any, examples: list[Batch], folder: Path, tolerance: float) -> float:
    """Writes model.onnx; returns the greatest difference of a logit, on whole examples and token by token.

    transformers' own exporter makes it, which knows the caches of its models.

    Raises:
        ConfigurationError: The model cannot be converted, or onnxruntime's answers differ by more than `tolerance`.
    """
    _write_graph(model, folder)
    rows = max(examples, key=lambda batch: batch.inputs["input_ids"].shape[1]).inputs["input_ids"][:1]
    steps = partial(_token_by_token, ids=rows)
    return written_and_compared(task, model, OnnxWriter, steps, examples, folder, tolerance)


def _write_graph(model: Any, folder: Path) -> None:
    graph = rename_cache(traced_graph(model, _step(model)))
    save_graph(graph, [value.name for value in graph.graph.outputs], folder)


def _step(model: Any) -> dict[str, Any]:
    """Some new tokens after others, of which the first text has none before its own."""
    rows, before, new = SAMPLE
    ids = torch.arange(rows * (before + new)).view(rows, -1) % model.config.get_text_config().vocab_size
    mask = torch.ones_like(ids)
    mask[0, 0] = 0
    cache = DynamicCache()
    with torch.no_grad():
        model(input_ids=ids[:, :before], attention_mask=mask[:, :before], past_key_values=cache, use_cache=True)
    places = torch.arange(before, before + new).repeat(rows, 1)
    inputs = {"input_ids": ids[:, before:], "attention_mask": mask, "position_ids": places}
    return {**inputs, "past_key_values": cache, "use_cache": True}


def _token_by_token(model: Any, ids: Tensor) -> Tensor:
    """Logits of the last tokens, each with the keys and values of those before it."""
    cache, first = DynamicCache(), max(1, ids.shape[1] - STEPS)
    with torch.no_grad():
        steps = [model(input_ids=ids[:, :first], past_key_values=cache, use_cache=True).logits]
        for place in range(first, ids.shape[1]):
            steps.append(model(input_ids=ids[:, place : place + 1], past_key_values=cache, use_cache=True).logits)
    return torch.cat(steps, dim=1)
