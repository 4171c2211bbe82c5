"""Which layers LoRA and IA³ adapt by default in families of models whose layers have names of their own."""

from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
)

from finetune_api.method import Method
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.launch.weight_files import OF_EXPERTS
from finetune_trainer.methods import apply_method
from finetune_trainer.models.load import LoadedModel
from finetune_trainer.unquantizable import JOINED_EXPERTS

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "moe_intermediate_size": 8,
    "shared_expert_intermediate_size": 8,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "first_k_dense_replace": 0,
    "q_lora_rank": 8,
    "kv_lora_rank": 8,
    "embedding_size": 16,
}
IMAGES = {"embed_dim": 16, "depths": [1], "num_heads": [2], "image_size": 16, "patch_size": 4, "window_size": 2}
ENCODER = ("query", "key", "value")
MIXTURE = ("q_proj", "k_proj", "v_proj", "o_proj")
LATENT = ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj")
CASES: dict[str, tuple[Any, tuple[str, ...], tuple[str, ...]]] = {
    "swinv2": (AutoModelForImageClassification, (*ENCODER, "dense"), ("key", "value", "dense")),
    "albert": (
        AutoModelForSequenceClassification,
        (*ENCODER, "dense", "ffn", "ffn_output"),
        ("key", "value", "ffn_output"),
    ),
    "megatron-bert": (AutoModelForSequenceClassification, (*ENCODER, "dense"), ("key", "value", "dense")),
    "mixtral": (AutoModelForCausalLM, MIXTURE, ("k_proj", "v_proj")),
    "qwen2_moe": (AutoModelForCausalLM, MIXTURE, ("k_proj", "v_proj", "down_proj")),
    "qwen3_moe": (AutoModelForCausalLM, MIXTURE, ("k_proj", "v_proj")),
    "olmoe": (AutoModelForCausalLM, MIXTURE, ("k_proj", "v_proj")),
    "gpt_oss": (AutoModelForCausalLM, MIXTURE, ("k_proj", "v_proj")),
    "deepseek_v2": (AutoModelForCausalLM, LATENT, ("kv_b_proj", "down_proj")),
}
"""The class, and the last parts of the names of the layers that LoRA and IA³ adapt."""


def loaded(kind: str, model_class: Any, sizes: dict[str, Any]) -> LoadedModel:
    usual = AutoConfig.for_model(kind)
    config = type(usual)(**{name: size for name, size in sizes.items() if hasattr(usual, name)})
    with torch.device("meta"):
        return LoadedModel(model_class.from_config(config), [], None)


def layers(model: Any, part: str) -> set[str]:
    return {name.split(f".{part}")[0].split(".")[-1] for name, _ in model.named_parameters() if f".{part}" in name}


@pytest.mark.parametrize("kind", CASES)
def test_the_layers_of_a_family(kind: str) -> None:
    model_class, lora, ia3 = CASES[kind]
    sizes = IMAGES if kind == "swinv2" else SIZES
    for method, part, expected in (("lora", "lora_A", lora), ("ia3", "ia3_l", ia3)):
        model = loaded(kind, model_class, sizes)
        adapted = apply_method(model, Method.model_validate({method: {}}), None, total_steps=1).model
        assert layers(adapted, part) == set(expected)


@pytest.mark.parametrize("kind", sorted(JOINED_EXPERTS))
def test_experts_of_these_types_are_no_layers_whatever_the_files_call_them(kind: str) -> None:
    """So bitsandbytes, which knows layers alone, leaves them as they are."""
    model = loaded(kind, AutoModelForCausalLM, SIZES).model
    experts = {name: one for name, one in model.named_modules() if OF_EXPERTS.search(f"{name}.")}
    assert experts
    assert not [name for name, one in experts.items() if isinstance(one, torch.nn.Linear)]


def test_pissa_is_refused_on_convolutions() -> None:
    """PEFT says that it does not know the initialization."""
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    model = loaded("resnet", AutoModelForImageClassification, sizes)
    with pytest.raises(ConfigurationError, match=r"lora\.init: PiSSA .* is a Conv2d; set init to Default"):
        apply_method(model, Method.model_validate({"lora": {"init": "PiSSA"}}), None, total_steps=1)
