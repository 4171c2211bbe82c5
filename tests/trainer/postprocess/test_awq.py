"""Weights in 4 bits that are rounded more finely where their inputs are great."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, LlamaConfig, LlamaForCausalLM

from finetune_api.postprocess import PostprocessStep
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.postprocess.awq import scale_channels
from finetune_trainer.postprocess.four_bits import round_layers
from finetune_trainer.postprocess.gptq import by_block, inputs_seen
from finetune_trainer.postprocess.suitability import check_architecture, named_linear_layers
from serving.in_process import serving
from trainer import tiny_models
from trainer.in_process import run
from trainer.jobs import FULL
from trainer.postprocess.test_chain import config, made, report

GROUP = 32
SIZES = {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 50}


def model_with_outliers(key_value_heads: int) -> Any:
    """A few channels of each norm are much greater than the others, as in trained language models."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES, num_key_value_heads=key_value_heads)).eval()
    for name, parameter in model.named_parameters():
        if "layernorm" in name:
            parameter.data[torch.randperm(64)[:4]] *= 20
    return model


def texts(seed: int) -> torch.Tensor:
    return torch.randint(50, (8, 12), generator=torch.Generator().manual_seed(seed))


def answers(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(texts(1)).logits


def in_steps(weight: torch.Tensor) -> torch.Tensor:
    return (weight * 100).round() / 100


def error(key_value_heads: int, scaled: bool) -> float:
    """On other texts than those that the scales were found on."""
    model = model_with_outliers(key_value_heads)
    before = answers(model)
    passes: list[Any] = [partial(model, row[None]) for row in texts(2)] if scaled else []
    round_layers(named_linear_layers(model, ()), GROUP, passes, scaled=model if scaled else None)
    return float((answers(model) - before).norm() / before.norm())


@pytest.mark.parametrize("key_value_heads", [4, 2])
def test_outlier_channels_cost_less_than_by_nearest_rounding(key_value_heads: int) -> None:
    assert error(key_value_heads, scaled=True) < 0.9 * error(key_value_heads, scaled=False)


def test_scaling_alone_changes_no_answer() -> None:
    model = model_with_outliers(4)
    before, weights = answers(model), model.model.layers[0].mlp.up_proj.weight.clone()
    for block in by_block(named_linear_layers(model, ())):
        scale_channels(model, block, inputs_seen(block, [partial(model, texts(2))]), in_steps)
    assert answers(model).allclose(before, atol=1e-4)
    assert not model.model.layers[0].mlp.up_proj.weight.allclose(weights)


async def test_a_writer_in_4_bits_is_evaluated_and_served(questions: Path, tmp_path: Path) -> None:
    model = tiny_models.llama(tmp_path / "llama", intermediate_size=64)
    steps = [{"name": "awq", "quantize": {"scheme": "Int4Awq", "groupSize": GROUP, "calibrationExamples": 8}}]
    changes = {"task": "TextGeneration", "method": FULL, "maxSteps": 2, "dataset": {"split": {"test": 0.2}}}
    result, _ = run(config(tmp_path, model, questions, steps, **changes), tmp_path)
    (step,) = result.postprocess
    assert step.format == "Quantized"
    assert step.metrics["loss"] == pytest.approx(result.metrics["loss"], rel=0.05)
    folder = made(tmp_path / "output", "awq")
    assert report(folder)["modelBytes"] < report(folder)["modelBytesBefore"]
    assert "rounded by AWQ on 8 training examples" in (folder / "README.md").read_text()
    async with serving(folder, name="tiny") as server:
        response = await server.client.post("/v1/completions", json={"model": "tiny", "prompt": "question :"})
    assert response.status_code == 200, response.text


def test_models_whose_norms_go_past_the_layers_are_refused() -> None:
    step = PostprocessStep.model_validate({"quantize": {"scheme": "Int4Awq"}})
    with pytest.raises(ConfigurationError, match=r"postprocess\[0\].quantize.scheme: .*'bert'; set Int4Gptq"):
        check_architecture([step], BertConfig())
