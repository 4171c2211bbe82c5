"""From a model that reads one text and writes another to two ONNX graphs: its encoder, and its decoder with a cache."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, EncoderDecoderCache

from finetune_serving.onnx_writer import ENCODER_FILE, OnnxSeq2Seq
from finetune_trainer.data.batches import Batch
from finetune_trainer.postprocess.comparison import written_and_compared
from finetune_trainer.postprocess.onnx_graph import rename_cache, save_graph, traced_graph
from finetune_trainer.tasks.task import Task

SAMPLE = (2, 5)
"""Rows and tokens, of each text, that the graphs are traced with."""


class Encoding(nn.Module):
    """What the model has read."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder, self.config = model.get_encoder(), model.config

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """One vector a token."""
        made = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        return {"last_hidden_state": made.last_hidden_state}


class Decoding(nn.Module):
    """The new tokens after those before. What it asks of the encoder's vectors is computed anew each time."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.config = model, model.config

    def forward(
        self,
        decoder_input_ids: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor,
        past_key_values: DynamicCache,
    ) -> dict[str, Any]:
        """Logits, and the cache with the new tokens."""
        cache = EncoderDecoderCache(past_key_values, DynamicCache())
        read = (encoder_hidden_states,)
        logits = _logits(self.model, decoder_input_ids, attention_mask, read, cache)
        return {"logits": logits, "past_key_values": past_key_values}


def to_onnx_seq2seq(task: Task, model: Any, examples: list[Batch], folder: Path, tolerance: float) -> float:
    """Writes encoder.onnx and model.onnx; returns the greatest difference of a logit, on whole examples and token by
    token.

    Raises:
        ConfigurationError: The model cannot be converted, or onnxruntime's answers differ by more than `tolerance`.
    """
    _write_graphs(model, folder)
    longest = max(examples, key=lambda batch: batch.inputs["decoder_input_ids"].shape[1])
    steps = partial(_token_by_token, batch=longest)
    return written_and_compared(task, model, OnnxSeq2Seq, steps, examples, folder, tolerance)


def _write_graphs(model: Any, folder: Path) -> None:
    ids = torch.arange(SAMPLE[0] * SAMPLE[1]).view(SAMPLE) % model.config.get_text_config().vocab_size
    mask = torch.ones_like(ids)
    mask[0, -1] = 0
    encoder = Encoding(model)
    with torch.no_grad():
        read = encoder(ids, mask)["last_hidden_state"]
        cache = DynamicCache()
        _logits(model, ids[:, :2], mask, (read,), EncoderDecoderCache(cache, DynamicCache()))
    graph = traced_graph(encoder, {"input_ids": ids, "attention_mask": mask})
    save_graph(graph, ["last_hidden_state"], folder, ENCODER_FILE)
    inputs = {"decoder_input_ids": ids[:, 2:], "encoder_hidden_states": read, "attention_mask": mask}
    graph = rename_cache(traced_graph(Decoding(model), {**inputs, "past_key_values": cache}))
    save_graph(graph, [value.name for value in graph.graph.outputs], folder)


def _token_by_token(model: Any, batch: Batch) -> Tensor:
    """Logits of one text, each token with the keys and values of those before it."""
    mask, written = batch.inputs["attention_mask"][:1], batch.inputs["decoder_input_ids"][:1]
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    with torch.no_grad():
        read = model.get_encoder()(input_ids=batch.inputs["input_ids"][:1], attention_mask=mask)
        steps = [_logits(model, token, mask, read, cache) for token in written.split(1, dim=1)]
    return torch.cat(steps, dim=1)


def _logits(model: Any, written: Tensor, mask: Tensor, read: Any, cache: EncoderDecoderCache) -> Tensor:
    logits: Tensor = model(
        encoder_outputs=read,
        attention_mask=mask,
        decoder_input_ids=written,
        past_key_values=cache,
        use_cache=True,
    ).logits
    return logits
