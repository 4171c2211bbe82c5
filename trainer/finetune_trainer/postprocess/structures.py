"""The parts that a model is made of, by architecture, and its configuration with fewer of them."""

import copy
import math
from dataclasses import dataclass
from typing import Any

from finetune_api.pruning import Prune
from finetune_trainer.errors import ConfigurationError

EXACT = 1e-9
"""What a product of a share and a count may be off by."""


@dataclass(frozen=True)
class Structure:
    """Names of modules within a layer of one family of architectures."""

    queries: tuple[str, ...]
    keys_and_values: tuple[str, ...]
    attended: str
    """Takes the outputs of all heads."""
    widening: tuple[str, ...]
    """What the hidden units of the MLP come from."""
    narrowing: str
    """Takes the hidden units."""
    sized_heads: bool
    """Whether config.json can say how large a head is: else fewer heads would be larger ones."""


BERT = Structure(
    queries=("attention.self.query",),
    keys_and_values=("attention.self.key", "attention.self.value"),
    attended="attention.output.dense",
    widening=("intermediate.dense",),
    narrowing="output.dense",
    sized_heads=False,
)
LLAMA = Structure(
    queries=("self_attn.q_proj",),
    keys_and_values=("self_attn.k_proj", "self_attn.v_proj"),
    attended="self_attn.o_proj",
    widening=("mlp.gate_proj", "mlp.up_proj"),
    narrowing="mlp.down_proj",
    sized_heads=True,
)
VIT = Structure(
    queries=("attention.q_proj",),
    keys_and_values=("attention.k_proj", "attention.v_proj"),
    attended="attention.o_proj",
    widening=("mlp.fc1",),
    narrowing="mlp.fc2",
    sized_heads=True,
)
STRUCTURES: dict[str, Structure] = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "electra"), BERT),
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), LLAMA),
    "vit": VIT,
}
"""By model_type. Their layers are all alike but for the kind of their attention."""


def groups_of(config: Any) -> int:
    """Key-value heads, each with the queries that share it: what is taken out together."""
    return int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)


def head_size(config: Any) -> int:
    """Numbers that one head gives."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def check_structure(config: Any, prune: Prune, path: str) -> None:
    """Raises ConfigurationError where a model of this configuration cannot lose those parts."""
    kind = config.model_type
    structure = STRUCTURES.get(kind)
    if structure is None:
        raise ConfigurationError(
            f"{path}.pattern: which parts a model of the type {kind!r} can lose is not known; Structured is for "
            f"{', '.join(sorted(STRUCTURES))}; set Unstructured"
        )
    if prune.heads and not structure.sized_heads:
        raise ConfigurationError(
            f"{path}.heads: a config.json of the type {kind!r} has no size of a head, so fewer of them would be larger "
            "ones; set neurons or layers instead"
        )
    for field, share in prune.parts.items():
        _check_share(config, field, share, path)


def without_parts(config: Any, prune: Prune, layers: list[int] | None = None) -> Any:
    """The configuration after pruning; `layers` are those that stay, by default the first ones."""
    fields: dict[str, Any] = {}
    if prune.heads:
        stay = kept(groups_of(config), prune.heads)
        fields["head_dim"] = head_size(config)
        fields["num_attention_heads"] = config.num_attention_heads // groups_of(config) * stay
        if getattr(config, "num_key_value_heads", None):
            fields["num_key_value_heads"] = stay
    if prune.neurons:
        fields["intermediate_size"] = kept(config.intermediate_size, prune.neurons)
    if prune.layers:
        layers = layers or list(range(kept(config.num_hidden_layers, prune.layers)))
        fields["num_hidden_layers"] = len(layers)
        if kinds := getattr(config, "layer_types", None):
            fields["layer_types"] = [kinds[layer] for layer in layers]
    made = copy.deepcopy(config)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def kept(count: int, share: float) -> int:
    """Of `count` parts when a share is taken out."""
    return count - int(count * share + EXACT)


def _check_share(config: Any, field: str, share: float, path: str) -> None:
    count = {"heads": groups_of(config), "neurons": config.intermediate_size, "layers": config.num_hidden_layers}[field]
    what = "key-value heads" if field == "heads" else field
    possible = [_upward(gone / count) for gone in range(1, count)]
    if kept(count, share) == count:
        mend = f"set at least {possible[0]:g}" if possible else "remove it"
        raise ConfigurationError(f"{path}.{field}: {share:g} of {count} {what} is none; {mend}")
    if field == "heads" and (refused := _refused(config, share)):
        accepted = [f"{one:g}" for one in possible if not _refused(config, one)]
        mend = f"set one of {', '.join(accepted)}" if accepted else "remove it"
        raise ConfigurationError(f"{path}.heads: with {share:g} of {count} {what} gone, {refused} {mend}")


def _upward(share: float) -> float:
    """With three digits that still are enough."""
    return math.ceil(share * 1000 - EXACT) / 1000


def _refused(config: Any, share: float) -> str | None:
    """What transformers has against fewer heads: Llama's number must divide the width of the model."""
    shrunk = without_parts(config, Prune(pattern="Structured", heads=share))
    try:
        type(config).from_dict(shrunk.to_dict())
    except Exception as error:  # of huggingface_hub's classes, and by the configuration's own code
        return f"{str(error).splitlines()[-1].strip().rstrip('.')};"
    return None
