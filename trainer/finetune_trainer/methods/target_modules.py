"""Which layers are adapted in each family of models, unless the job names them."""

from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from finetune_trainer.errors import ConfigurationError

BERT = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]
LLAMA = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
T5 = ["q", "k", "v", "o", "wi", "wi_0", "wi_1", "wo"]
BART = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
VIT = ["q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2"]
SPEECH = ["q_proj", "k_proj", "v_proj", "out_proj", "intermediate_dense", "output_dense"]
DEEPSEEK = ["q_proj", "q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"]
"""Attention alone: of a mixture PEFT takes `gate_proj`, `up_proj` and `down_proj` for the experts, nothing else."""
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
"""Of other mixtures likewise."""
FUSED = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]

BERT_LIKE = ("bert", "roberta", "xlm-roberta", "camembert", "electra", "ernie", "megatron-bert")
LLAMA_LIKE = (
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma",
    "gemma2",
    "gemma3_text",
    "smollm3",
    "olmo2",
    "granite",
    "cohere",
)
T5_LIKE = ("t5", "mt5", "umt5")
VIT_LIKE = ("vit", "deit", "swin", "dinov2", "beit", "audio-spectrogram-transformer", "detr")
BART_LIKE = ("bart", "mbart", "marian", "pegasus", "m2m_100", "whisper")
SPEECH_LIKE = ("wav2vec2", "hubert", "unispeech", "unispeech-sat", "data2vec-audio", "sew")
MIXTURES = ("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "gpt_oss")
DEEPSEEK_LIKE = ("deepseek_v2", "deepseek_v3")
"""Values of model_type whose layers have the same names."""

FAMILIES: dict[str, list[str]] = {
    **dict.fromkeys([*BERT_LIKE, "yolos", "swinv2"], BERT),
    **dict.fromkeys(LLAMA_LIKE, LLAMA),
    **dict.fromkeys(DEEPSEEK_LIKE, DEEPSEEK),
    **dict.fromkeys(MIXTURES, ATTENTION),
    **dict.fromkeys(["phi3"], FUSED),
    "albert": ["query", "key", "value", "attention.dense", "ffn", "ffn_output"],
    "distilbert": ["q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"],
    "deberta-v2": [
        "query_proj",
        "key_proj",
        "value_proj",
        "attention.output.dense",
        "intermediate.dense",
        "output.dense",
    ],
    "modernbert": ["Wqkv", "Wo", "Wi"],
    "mpnet": ["attn.q", "attn.k", "attn.v", "attn.o", "intermediate.dense", "output.dense"],
    **dict.fromkeys(T5_LIKE, T5),
    **dict.fromkeys(BART_LIKE, BART),
    **dict.fromkeys(VIT_LIKE, VIT),
    **dict.fromkeys(SPEECH_LIKE, SPEECH),
    "wavlm": ["intermediate_dense", "output_dense"],  # its attention takes the weights of its layers, past an adapter
    "resnet": ["convolution"],
    "convnext": ["pwconv1", "pwconv2"],
    "gpt2": ["c_attn", "c_proj", "c_fc"],
    "gpt_neox": ["query_key_value", "attention.dense", "dense_h_to_4h", "dense_4h_to_h"],
    "opt": BART,
    "phi": ["q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"],
    "falcon": ["query_key_value", "self_attention.dense", "dense_h_to_4h", "dense_4h_to_h"],
    "bloom": ["query_key_value", "self_attention.dense", "dense_h_to_4h", "dense_4h_to_h"],
}
"""Attention and MLP layers. The routers and fused experts of mixtures are left out on purpose."""


LINEAR: tuple[type, ...] = (torch.nn.Linear, Conv1D)
"""GPT-2's Conv1D is a linear layer with transposed weights."""
ADAPTED: tuple[type, ...] = (*LINEAR, torch.nn.Embedding, torch.nn.Conv2d)
"""Layers that LoRA has adapters for."""


def target_modules(model: Any, asked_for: list[str] | None, field: str, kinds: tuple[type, ...] = ADAPTED) -> list[str]:
    """Layer names, each of which is in the model; `field` of the job asked for them.

    Raises:
        ConfigurationError: A name fits no layer, or one whose weights are another's too, or the family is unknown;
            lists the layers there are.
    """
    candidates = adaptable(model, kinds)
    if asked_for is None:
        known = FAMILIES.get(model.config.model_type)
        if known is None:
            raise ConfigurationError(
                f"{field}: no default for models of the type {model.config.model_type!r}; set it to "
                f"some of: {', '.join(leaf_names(candidates))}"
            )
        return known
    for name in asked_for:
        if not any(names_layer(name, layer) for layer in candidates):
            raise ConfigurationError(
                f"{field}: the model has no layer {name!r} that can be adapted; "
                f"it has: {', '.join(leaf_names(candidates))}"
            )
    _refuse_tied(model, [layer for layer in candidates if any(names_layer(name, layer) for name in asked_for)], field)
    return asked_for


def _refuse_tied(model: Any, layers: list[str], field: str) -> None:
    """An adapter of such a layer is trained beside it alone, but merged it changes the others."""
    owners: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners.setdefault(id(parameter), []).append(name.rpartition(".")[0])
    for layer in layers:
        for parameter in model.get_submodule(layer).parameters(recurse=False):
            others = [owner for owner in owners[id(parameter)] if owner != layer]
            if others:
                raise ConfigurationError(
                    f"{field}: the weights of {layer!r} are those of {others[0]!r} too in this model, so that an "
                    "adapter of one would change the other when it is merged to be served; leave it out, or set "
                    "method.full"
                )


def names_layer(name: str, layer: str) -> bool:
    """Whether `name` is the layer's full name, or its last parts."""
    return layer == name or layer.endswith(f".{name}")


def adaptable(model: Any, kinds: tuple[type, ...]) -> list[str]:
    """Full names of the layers that can be adapted, without the output head."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    return [name for name, module in model.named_modules() if isinstance(module, kinds) and module is not head]


def stores_transposed(model: Any, names: list[str]) -> bool:
    """Whether the layers are GPT-2's Conv1D, whose weights are (in, out)."""
    return any(
        isinstance(module, Conv1D) and any(names_layer(name, layer) for name in names)
        for layer, module in model.named_modules()
    )


def leaf_names(layers: list[str]) -> list[str]:
    """Last parts of the names, each once, in the order of the model."""
    return list(dict.fromkeys(layer.rsplit(".", 1)[-1] for layer in layers))
