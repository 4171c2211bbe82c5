"""IA³ by PEFT: keys, values and the inner activations of each MLP are scaled by learnt factors."""

import re
from typing import Any

from peft import IA3Config

from finetune_api.method import Ia3
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.methods.adaptation import Adaptation
from finetune_trainer.methods.peft_model import adapted, new_modules
from finetune_trainer.methods.target_modules import (
    BART_LIKE,
    BERT_LIKE,
    DEEPSEEK_LIKE,
    LINEAR,
    LLAMA_LIKE,
    MIXTURES,
    SPEECH_LIKE,
    T5_LIKE,
    VIT_LIKE,
    adaptable,
    leaf_names,
    stores_transposed,
    target_modules,
)
from finetune_trainer.models.load import LoadedModel

Layers = tuple[list[str], list[str]]

BERT: Layers = (["key", "value"], [r"layer\.\d+\.output\.dense"])
LLAMA: Layers = (["k_proj", "v_proj"], ["down_proj"])
FUSED: Layers = (["query_key_value"], ["dense_4h_to_h"])

FAMILIES: dict[str, Layers] = {
    **dict.fromkeys([*BERT_LIKE, "yolos"], BERT),
    **dict.fromkeys(LLAMA_LIKE, LLAMA),
    **dict.fromkeys(["gpt_neox", "falcon", "bloom"], FUSED),
    **dict.fromkeys(T5_LIKE, ([r"Attention\.k", r"Attention\.v"], ["wo"])),
    **dict.fromkeys(BART_LIKE, (["k_proj", "v_proj"], ["fc2"])),
    **dict.fromkeys(VIT_LIKE, (["k_proj", "v_proj"], ["fc2"])),
    **dict.fromkeys(SPEECH_LIKE, (["k_proj", "v_proj"], ["output_dense"])),
    **dict.fromkeys(MIXTURES, (["k_proj", "v_proj"], [r"shared_expert\.down_proj"])),
    **dict.fromkeys(DEEPSEEK_LIKE, (["kv_b_proj"], [r"mlp\.down_proj", r"shared_experts\.down_proj"])),
    "swinv2": (["key", "value"], [r"blocks\.\d+\.output\.dense"]),
    "albert": (["key", "value"], ["ffn_output"]),
    "phi3": (["qkv_proj"], ["down_proj"]),
    "distilbert": (["k_lin", "v_lin"], ["lin2"]),
    "deberta-v2": (["key_proj", "value_proj"], [r"layer\.\d+\.output\.dense"]),
    "modernbert": ([r"attn\.Wqkv"], [r"mlp\.Wo"]),
    "mpnet": ([r"attn\.k", r"attn\.v"], [r"layer\.\d+\.output\.dense"]),
    "gpt2": (["c_attn"], [r"mlp\.c_proj"]),
    "opt": (["k_proj", "v_proj"], ["fc2"]),
    "phi": (["k_proj", "v_proj"], ["fc2"]),
}
"""Ends of layer names, as patterns: those scaled at their output, and those scaled at their input.

Of a mixture not the experts, which lie in one tensor a layer."""


def with_ia3(loaded: LoadedModel, ia3: Ia3) -> Adaptation:
    """The model with its factors, all of which start at 1."""
    outputs, inputs = layers(loaded.model, ia3)
    config = IA3Config(
        target_modules=[*outputs, *inputs],
        feedforward_modules=inputs,
        modules_to_save=new_modules(loaded),
        task_type=loaded.peft_type,
        fan_in_fan_out=stores_transposed(loaded.model, [*outputs, *inputs]),
    )
    return Adaptation(adapted(loaded, config, "ia3"))


def layers(model: Any, ia3: Ia3) -> Layers:
    """Full names of the layers, so that no other layer with a like ending is meant.

    Raises:
        ConfigurationError: The family is unknown, or a name fits no layer; lists the layers there are.
    """
    if ia3.target_modules:
        inputs = ia3.feedforward_modules or []
        return (
            _ending(model, target_modules(model, ia3.target_modules, "method.ia3.targetModules", LINEAR)),
            _ending(model, target_modules(model, inputs, "method.ia3.feedforwardModules", LINEAR)),
        )
    known = FAMILIES.get(model.config.model_type)
    if known is None:
        raise ConfigurationError(
            f"method.ia3.targetModules: no default for models of the type {model.config.model_type!r}; set it to the "
            f"layers of keys and values, of: {', '.join(leaf_names(adaptable(model, LINEAR)))}"
        )
    outputs, inputs = known
    return _matching(model, outputs), _matching(model, inputs)


def _ending(model: Any, names: list[str]) -> list[str]:
    return _matching(model, [re.escape(name) for name in names])


def _matching(model: Any, patterns: list[str]) -> list[str]:
    ends = re.compile(rf"(.*\.)?({'|'.join(patterns)})") if patterns else re.compile(r"$.")
    return [name for name in adaptable(model, LINEAR) if ends.fullmatch(name)]
