"""AWQ: channels whose inputs are great are held more exactly (Lin et al. 2023, arXiv:2306.00978).

A column of a weight is multiplied, and what its input comes from divided, by the same number: the model answers as
before, and the column is rounded in finer steps. Own code, as autoawq has ended and llm-compressor wants older
transformers. Magnitudes are root mean squares, where the paper takes means; weights are not clipped.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from finetune_trainer.errors import ConfigurationError
from finetune_trainer.postprocess.structures import LLAMA, STRUCTURES

SCALED_TYPES = sorted(kind for kind, structure in STRUCTURES.items() if structure is LLAMA)
"""Where what comes before a linear layer goes to it alone. BERT's norms also go past it, so nothing can be divided."""
PAIRS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("input_layernorm", (*LLAMA.queries, *LLAMA.keys_and_values)),
    ("self_attn.v_proj", (LLAMA.attended,)),
    ("post_attention_layernorm", LLAMA.widening),
    ("mlp.up_proj", (LLAMA.narrowing,)),
)
"""What the inputs of some linear layers come from, within a layer of the model."""
EXPONENTS = [step / 20 for step in range(20)]
"""Of the inputs' magnitudes, to be tried; 0 leaves the weights as they are."""

Round = Callable[[Tensor], Tensor]
"""A weight (rows, columns) to the nearest values that can be held."""


def check_scaled(config: Any, path: str) -> None:
    """Raises ConfigurationError where nothing comes before the linear layers that could be divided."""
    if config.model_type not in SCALED_TYPES:
        raise ConfigurationError(
            f"{path}.scheme: Int4Awq is for models of the types {', '.join(SCALED_TYPES)}, and this one is of the type "
            f"{config.model_type!r}; set Int4Gptq"
        )


def scale_channels(model: nn.Module, block: dict[str, nn.Linear], seen: dict[str, Tensor], nearest: Round) -> None:
    """In place, for the linear layers of one layer; `seen` are the sums of the outer products of their inputs."""
    first = f".{LLAMA.queries[0]}"
    prefix = next((name.removesuffix(first) for name in block if name.endswith(first)), None)
    if prefix is None:
        return
    for source, targets in PAIRS:
        before = model.get_submodule(f"{prefix}.{source}")
        names = [f"{prefix}.{target}" for target in targets]
        # Where several queries share a value, one number of it would have to be divided by several.
        if before.get_parameter("weight").shape[0] != block[names[0]].in_features:
            continue
        weights = [block[name].weight.detach().float() for name in names]
        scales = _best_scales(weights, seen[names[0]], nearest)
        with torch.no_grad():
            for name in names:
                block[name].weight.mul_(scales)
            for parameter in before.parameters(recurse=False):
                parameter.div_(scales.unsqueeze(1) if parameter.dim() == 2 else scales)


def _best_scales(weights: list[Tensor], seen: Tensor, nearest: Round) -> Tensor:
    """One number a column, by which the outputs on the examples change least."""
    magnitudes = seen.diagonal().clamp_min(torch.finfo(torch.float32).tiny).sqrt()
    candidates = [magnitudes**exponent for exponent in EXPONENTS]
    # Around 1, so that neither the weights nor what comes before them gets out of hand.
    candidates = [one / (one.max() * one.min()).sqrt() for one in candidates]
    return min(candidates, key=partial(_error, weights, seen, nearest))


def _error(weights: list[Tensor], seen: Tensor, nearest: Round, scales: Tensor) -> float:
    """Of the outputs, squared and summed over the examples."""
    changes = [nearest(weight * scales) / scales - weight for weight in weights]
    return sum(float(((change @ seen) * change).sum()) for change in changes)
