"""Only models that keep the texts of a row apart may have them packed."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from finetune_api.dataset import Columns
from finetune_api.training import Training
from finetune_trainer.data.encoded import encode
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.models.packed_texts import check_packing
from finetune_trainer.models.segment_attention import attend_by_segment
from finetune_trainer.ranks import Ranks
from finetune_trainer.recipe import faster_steps
from finetune_trainer.tasks.text_generation import TextGeneration, learnt_tokens

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
FURTHER: dict[str, dict[str, Any]] = {
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "biogpt": {"intermediate_size": 48},
    "xglm": {"d_model": 32, "num_layers": 2, "attention_heads": 4, "ffn_dim": 48},
    "mpt": {"d_model": 32, "n_layers": 2, "n_heads": 4},
    "mistral": {"intermediate_size": 48, "num_key_value_heads": 2, "sliding_window": 8},
    "qwen3_moe": {"intermediate_size": 48, "moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2},
    "mamba": {"state_size": 4},
}
DATA = encode([learnt_tokens([1, 2, 3], [True] * 3), learnt_tokens(range(3, 40), [True] * 37)])
PACKED = TextGeneration(Columns(), packing=True)
PLAIN = PACKED.collator(SimpleNamespace(pad_token_id=0))


def model_of(kind: str) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **SIZES | FURTHER.get(kind, {}))
    return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("kind", ["bloom", "falcon", "mpt", "opt", "biogpt", "xglm", "mamba"])
def test_a_model_that_mixes_texts_is_refused_before_the_first_step(kind: str) -> None:
    feed: Any = SimpleNamespace(collate=PLAIN, encoded=DATA)
    with pytest.raises(ConfigurationError, match=rf"training\.packing: models of the type '{kind}'.*set it to false"):
        faster_steps(model_of(kind), PACKED, feed, Training(packing=True), torch.device("cpu"), Ranks())


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox", "gemma2", "mistral", "qwen3_moe"])
def test_one_that_keeps_them_apart_may_pack(kind: str) -> None:
    model = model_of(kind).train()
    collates = (PLAIN, attend_by_segment(model, PLAIN))
    with torch.autocast("cpu", torch.bfloat16):
        check_packing(model, DATA, collates, torch.device("cpu"), Ranks())
    assert model.training
