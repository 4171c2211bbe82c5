"""A model that writes token by token in ONNX: one graph for the new tokens and what is kept of those before them."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, GenerationConfig
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import CausalLMOutputWithPast

from finetune_serving.converted_model import ConvertedModel
from finetune_serving.onnx_session import OnnxSession

KEPT, MADE = "past_key_values.{}.{}", "present.{}.{}"
"""Keys and values of a layer before and after the new tokens, (rows, heads, tokens, numbers of a head): names that
optimum gave them, which other runtimes know too."""
KINDS = ("key", "value")


class OnnxWriter(ConvertedModel, GenerationMixin):
    """Called as one of transformers is, and generates by its code."""

    main_input_name = "input_ids"
    _is_stateful = False
    hf_device_map: dict[str, Any] = {}

    def __init__(self, folder: Path, trust_remote_code: bool = False) -> None:
        ConvertedModel.__init__(self, folder, trust_remote_code)
        self.generation_config = GenerationConfig.from_pretrained(str(folder))
        self._graph = OnnxSession(folder)
        self._layers = sum(name.endswith(KINDS[0]) for name in self._graph.inputs)

    def __call__(self, *arguments: Any, **inputs: Any) -> CausalLMOutputWithPast:
        return self.forward(*arguments, **inputs)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: DynamicCache | None = None,
        **_: Any,
    ) -> CausalLMOutputWithPast:
        """Logits of the new tokens, in float32; the cache grows by them."""
        rows, new = input_ids.shape
        before = past_key_values.get_seq_length() if past_key_values is not None else 0
        if attention_mask is None:
            attention_mask = torch.ones(rows, before + new, dtype=torch.long)
        if position_ids is None:
            position_ids = torch.arange(before, before + new).expand(rows, new)
        given = {"input_ids": input_ids, "attention_mask": attention_mask, "position_ids": position_ids}
        made = self._graph.run(given | self._kept(past_key_values, rows))
        if past_key_values is not None:
            self._keep(past_key_values, made)
        return CausalLMOutputWithPast(logits=made["logits"], past_key_values=past_key_values)

    def can_generate(self) -> bool:
        """It does nothing else."""
        return True

    def get_experts_implementation(self) -> dict[str, str]:
        """The graph has them."""
        return {}

    def is_remote_code(self) -> bool:
        """The graph needs no code of the model."""
        return False

    def _kept(self, cache: DynamicCache | None, rows: int) -> dict[str, Tensor]:
        kept = {}
        layers: list[Any] = cache.layers if cache is not None else []
        for number in range(self._layers):
            known = (None, None)
            if number < len(layers) and layers[number].is_initialized:
                known = (layers[number].keys, layers[number].values)
            for kind, tensor in zip(KINDS, known, strict=True):
                name = KEPT.format(number, kind)
                kept[name] = tensor if tensor is not None else self._graph.empty(name, rows)
        return kept

    def _keep(self, cache: DynamicCache, made: dict[str, Tensor]) -> None:
        layers: list[Any] = cache.layers
        for number in range(self._layers):
            keys, values = (made[MADE.format(number, kind)] for kind in KINDS)
            if number < len(layers) and layers[number].is_initialized:
                layers[number].keys, layers[number].values = keys, values
            else:
                cache.update(keys, values, number)
