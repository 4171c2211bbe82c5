"""Weights in 4 bits: rounded by what the inputs make of it, packed, read back by trainer and server."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from finetune_api.artifact import ArtifactDescription
from finetune_api.dataset import Columns
from finetune_api.manifest import verify_folder
from finetune_api.reports import TrainingResult
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.postprocess.four_bits import check_group_size, round_layers, save_packed
from finetune_trainer.postprocess.gptq import by_block
from finetune_trainer.postprocess.source import Source
from finetune_trainer.postprocess.suitability import named_linear_layers
from finetune_trainer.tasks.seq2seq import Seq2Seq
from trainer import tiny_models
from trainer.in_process import run
from trainer.jobs import FULL
from trainer.postprocess.test_chain import TEXTS, answers, config, made, report

COLUMNS, GROUP = 64, 32


@pytest.fixture(scope="module")
def quantized(tickets: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainingResult]:
    root = tmp_path_factory.mktemp("int4")
    steps = [{"name": "int4", "quantize": {"scheme": "Int4Gptq", "groupSize": GROUP, "calibrationExamples": 8}}]
    model = tiny_models.bert(root / "bert", spread=0.2, intermediate_size=64)
    return root / "output", run(config(root, model, tickets, steps, method=FULL, learningRate=2e-3), root)[0]


def test_a_model_in_4_bits_is_evaluated_and_described(quantized: tuple[Path, TrainingResult]) -> None:
    output, result = quantized
    (step,) = result.postprocess
    folder = made(output, "int4")
    verify_folder(folder, step.artifact_digest)
    found = report(folder)
    assert step.format == "Quantized"
    assert step.metrics is not None
    assert step.metrics["accuracy"] > found["trainedMetrics"]["accuracy"] - 0.1
    assert found["modelBytes"] < found["modelBytesBefore"]
    written = json.loads((folder / "config.json").read_text())["quantization_config"]
    assert (written["quant_method"], written["format"], written["quantization_status"]) == (
        "compressed-tensors",
        "pack-quantized",
        "compressed",
    )
    assert written["ignore"] == ["bert.pooler.dense", "classifier"]
    assert "32 weights to a scale, rounded by GPTQ on 8 training examples" in (folder / "README.md").read_text()


async def test_the_server_answers_by_the_packed_weights(quantized: tuple[Path, TrainingResult]) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = made(quantized[0], "int4")
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    batch = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.softmax(-1)
    served = await answers(folder)
    assert served.allclose(expected, atol=1e-5)
    assert not served.allclose(await answers(quantized[0]), atol=1e-6)


def layer_and_inputs() -> tuple[nn.Linear, torch.Tensor]:
    """Inputs whose features go together, as those of trained models do."""
    torch.manual_seed(0)
    layer = nn.Linear(COLUMNS, 16, bias=False)
    return layer, torch.randn(256, 8) @ torch.randn(8, COLUMNS) + 0.1 * torch.randn(256, COLUMNS)


def output_error(calibrated: bool) -> float:
    layer, inputs = layer_and_inputs()
    before = layer(inputs).detach()
    passes: list[Any] = [partial(layer, inputs)] if calibrated else []
    round_layers({"layer": layer}, GROUP, passes)
    return float(((layer(inputs) - before).norm() / before.norm()).detach())


def test_rounding_that_looks_at_inputs_changes_outputs_less() -> None:
    assert output_error(calibrated=True) < 0.6 * output_error(calibrated=False)


@pytest.mark.parametrize("calibrated", [True, False])
def test_every_weight_is_one_of_the_sixteen_multiples_of_its_scale(calibrated: bool) -> None:
    layer, inputs = layer_and_inputs()
    round_layers({"layer": layer}, GROUP, [partial(layer, inputs)] if calibrated else [])
    scales = layer.get_parameter("weight_scale")
    steps = layer.weight.detach().view(16, -1, GROUP) / scales.unsqueeze(-1)
    assert steps.allclose(steps.round(), atol=1e-4)
    assert steps.min() > -8.01
    assert steps.max() < 7.01


def test_an_input_that_is_always_zero_does_no_harm() -> None:
    layer, inputs = layer_and_inputs()
    inputs[:, 3] = 0.0
    round_layers({"layer": layer}, GROUP, [partial(layer, inputs)])
    assert layer.weight.isfinite().all()


def test_layers_of_a_block_are_calibrated_together() -> None:
    names = ["encoder.0.query", "encoder.0.output", "encoder.1.query", "pooler"]
    blocks = by_block({name: nn.Linear(2, 2) for name in names})
    assert [list(block) for block in blocks] == [names[:2], names[2:3], names[3:]]


@pytest.mark.parametrize(
    ("widths", "mend"), [((128, 96), "set 32"), ((128, 192), "set 64"), ((128, 100), "set scheme to Int8WeightOnly")]
)
def test_a_group_that_does_not_divide_a_layer_is_refused(widths: tuple[int, int], mend: str) -> None:
    layers = {f"layer{width}": nn.Linear(width, 4) for width in widths}
    with pytest.raises(ConfigurationError, match=rf"postprocess\[0\].quantize.groupSize: {widths[1]} inputs .* {mend}"):
        check_group_size(layers, 128, "postprocess[0].quantize")


def test_what_writes_one_text_for_another_is_read_back_as_it_is_served(tmp_path: Path) -> None:
    """Its encoder is called before it: compressed-tensors would widen the weights in the first call of the whole."""
    from transformers import BartConfig, BartForConditionalGeneration

    parts = {f"{part}_{name}": 1 for part in ("encoder", "decoder") for name in ("layers", "attention_heads")}
    sizes = {"d_model": 32, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "vocab_size": 20}
    model = BartForConditionalGeneration(BartConfig(**parts, **sizes, max_position_embeddings=16)).eval()
    layers = named_linear_layers(model, ())
    round_layers(layers, 32, [])
    ids = torch.tensor([[4, 5, 6]])
    expected = model(input_ids=ids).logits
    save_packed(model, layers, 32, tmp_path)
    about, task = ArtifactDescription(task="Seq2Seq", format="Quantized"), Seq2Seq(Columns())
    source = Source(tmp_path, about, tmp_path, task, None, [], lambda count: [], lambda model: {})
    assert source.model().generate(input_ids=ids, max_new_tokens=2).shape[0] == 1
    assert source.model()(input_ids=ids).logits.allclose(expected, atol=1e-5)
