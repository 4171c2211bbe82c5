"""Models that write token by token in ONNX. They are called as those of transformers are, and generate by its code."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache, GenerationConfig
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutputWithPast, Seq2SeqLMOutput

from finetune_serving.cached_graph import CachedGraph
from finetune_serving.converted_model import ConvertedModel
from finetune_serving.onnx_session import OnnxSession

ENCODER_FILE = "encoder.onnx"


class Writing(ConvertedModel, GenerationMixin):
    """What generation asks of a model."""

    main_input_name = "input_ids"
    base_model_prefix = "model"
    _is_stateful = False
    hf_device_map: dict[str, Any] = {}

    def __init__(self, folder: Path, trust_remote_code: bool = False) -> None:
        ConvertedModel.__init__(self, folder, trust_remote_code)
        self.generation_config = GenerationConfig.from_pretrained(str(folder))
        self._graph = CachedGraph(folder)

    def can_generate(self) -> bool:
        """It does nothing else."""
        return True

    def get_experts_implementation(self) -> dict[str, str]:
        """The graph has them."""
        return {}

    def is_remote_code(self) -> bool:
        """The graph needs no code of the model."""
        return False


class OnnxWriter(Writing):
    """Continues a text."""

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
        """Logits of the new tokens."""
        rows, new = input_ids.shape
        before = past_key_values.get_seq_length() if past_key_values is not None else 0
        if attention_mask is None:
            attention_mask = torch.ones(rows, before + new, dtype=torch.long)
        if position_ids is None:
            position_ids = torch.arange(before, before + new).expand(rows, new)
        given = {"input_ids": input_ids, "attention_mask": attention_mask, "position_ids": position_ids}
        logits = self._graph.run(given, past_key_values, rows)
        return CausalLMOutputWithPast(logits=logits, past_key_values=past_key_values)


class Reader:
    """The encoder of a model, a graph of its own."""

    main_input_name = "input_ids"

    def __init__(self, folder: Path) -> None:
        self._session = OnnxSession(folder, ENCODER_FILE)

    def __call__(self, *arguments: Any, **inputs: Any) -> BaseModelOutput:
        return self.forward(*arguments, **inputs)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any) -> BaseModelOutput:
        """What it has read of each token."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        made = self._session.run({"input_ids": input_ids, "attention_mask": mask})
        return BaseModelOutput(last_hidden_state=made["last_hidden_state"])


class OnnxSeq2Seq(Writing):
    """Writes one text for another."""

    def __init__(self, folder: Path, trust_remote_code: bool = False) -> None:
        super().__init__(folder, trust_remote_code)
        self._reader = Reader(folder)

    def __call__(self, *arguments: Any, **inputs: Any) -> Seq2SeqLMOutput:
        return self.forward(*arguments, **inputs)

    def get_encoder(self, *_: Any, **__: Any) -> Reader:
        """Asked once for each text."""
        return self._reader

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        encoder_outputs: Any = None,
        past_key_values: EncoderDecoderCache | None = None,
        **_: Any,
    ) -> Seq2SeqLMOutput:
        """Logits of the new tokens."""
        assert decoder_input_ids is not None
        if encoder_outputs is None:
            assert input_ids is not None
            encoder_outputs = self._reader(input_ids, attention_mask)
        read: Tensor = encoder_outputs[0]
        mask = torch.ones(read.shape[:2], dtype=torch.long) if attention_mask is None else attention_mask
        given = {"decoder_input_ids": decoder_input_ids, "encoder_hidden_states": read, "attention_mask": mask}
        cache: Any = past_key_values.self_attention_cache if past_key_values is not None else None
        logits = self._graph.run(given, cache, len(decoder_input_ids))
        return Seq2SeqLMOutput(logits=logits, past_key_values=past_key_values, encoder_last_hidden_state=read)
