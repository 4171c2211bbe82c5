"""What a step cannot do to a model is said before anything is trained."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, Qwen3MoeConfig

from finetune_api.postprocess import PostprocessStep
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.postprocess.suitability import check_layers
from trainer import tiny_models


def quantized(scheme: str) -> list[PostprocessStep]:
    return [PostprocessStep.model_validate({"quantize": {"scheme": scheme}})]


@pytest.mark.parametrize(
    ("step", "experts", "expected"),
    [
        (
            {"quantize": {"scheme": "Int4WeightOnly", "groupSize": 32}},
            4,
            r"quantize\.scheme: .*'qwen3_moe' have experts",
        ),
        ({"quantize": {}}, 64, r"\[0\]\.quantize: 8\d% of the weights of this 'qwen3_moe' are experts, .* remove it"),
        ({"prune": {}}, 64, r"\[0\]\.prune: 8\d% of the weights"),
        ({"quantize": {}}, 4, None),
    ],
)
def test_what_leaves_most_of_a_mixture_of_experts_as_it_is_is_refused(
    step: dict[str, Any], experts: int, expected: str | None
) -> None:
    config = Qwen3MoeConfig(
        hidden_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=500,
        head_dim=16,
        num_experts=experts,
        moe_intermediate_size=32,
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(ConfigurationError, match=expected) if expected else nullcontext():
        check_layers([PostprocessStep.model_validate(step)], model, ())


def test_8_bits_that_could_not_be_read_again_are_refused(tmp_path: Path) -> None:
    """BART, Marian, Pegasus and their like have a bias of each token that is no layer's."""
    bart, t5 = (make(tmp_path / make.__name__) for make in (tiny_models.bart, tiny_models.t5))
    with torch.device("meta"):
        with_a_bias, without = (
            AutoModelForSeq2SeqLM.from_config(AutoConfig.from_pretrained(one)) for one in (bart, t5)
        )
    for scheme in ("Int8Dynamic", "Int8WeightOnly"):
        with pytest.raises(ConfigurationError, match=r"quantize\.scheme: .*'bart' hold 'final_logits_bias' .*onnx"):
            check_layers(quantized(scheme), with_a_bias, ())
        check_layers(quantized(scheme), without, ())
