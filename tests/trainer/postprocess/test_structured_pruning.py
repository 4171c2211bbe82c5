"""Heads, neurons and layers that matter least are taken out: the model is smaller, and loads as any other."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    LlamaConfig,
    T5Config,
)

from finetune_api.dataset import Columns
from finetune_api.postprocess import PostprocessStep
from finetune_api.pruning import Prune
from finetune_operator.plan.gates import TrainedModel, decide_gates
from finetune_trainer.data.batches import Batch
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.postprocess.importance import measured
from finetune_trainer.postprocess.structured_pruning import Stack, remove_parts
from finetune_trainer.postprocess.structures import STRUCTURES, check_structure
from finetune_trainer.postprocess.suitability import check_architecture, check_layers
from finetune_trainer.tasks.text_classification import TextClassification
from finetune_trainer.tasks.text_generation import TextGeneration
from serving.in_process import serving
from trainer import tiny_models
from trainer.in_process import run
from trainer.jobs import FULL
from trainer.postprocess.test_chain import answers, config, made, report

IDS = torch.arange(24).view(4, 6) + 4
WORDS = Batch({"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}, torch.arange(4), torch.tensor([0, 1, 0, 1]))
NEXT = Batch({"input_ids": IDS}, torch.arange(5), IDS[0, 1:], {"use_cache": False})
IMAGES = Batch({"pixel_values": torch.randn(4, 3, 16, 16)}, torch.arange(4), torch.tensor([0, 1, 0, 1]))


def structured(**parts: float) -> Prune:
    return Prune.model_validate({"pattern": "Structured", **parts})


def silence(model: Any, layer: int, heads: list[int] = [], neurons: list[int] = []) -> None:  # noqa: B006
    """Key-value heads and neurons of a layer that no longer say anything."""
    stack = Stack.of(model)
    attended = stack.linear(layer, stack.structure.attended).weight
    groups = getattr(model.config, "num_key_value_heads", None) or model.config.num_attention_heads
    with torch.no_grad():
        attended.view(len(attended), groups, -1)[:, heads] = 0.0
        stack.linear(layer, stack.structure.narrowing).weight[:, neurons] = 0.0


CASES = {
    "bert": (tiny_models.bert, AutoModelForSequenceClassification, TextClassification(Columns()), WORDS, []),
    "llama": (tiny_models.llama, AutoModelForCausalLM, TextGeneration(Columns(), packing=False), NEXT, [1]),
    "qwen": (tiny_models.qwen, AutoModelForCausalLM, TextGeneration(Columns(), packing=False), NEXT, [0]),
    "vit": (tiny_models.vit, AutoModelForImageClassification, TextClassification(Columns()), IMAGES, [1, 3]),
}


@pytest.mark.parametrize("name", CASES)
def test_what_says_nothing_goes_and_the_answers_stay(name: str, tmp_path: Path) -> None:
    make, kind, task, batch, heads = CASES[name]
    model = kind.from_pretrained(make(tmp_path / "whole")).eval()
    for layer in (0, 1):  # other neurons in each
        silence(model, layer, heads, list(range(layer, 48, 2)))
    with torch.no_grad():
        before = task.outputs(model, batch)
    wanted = structured(neurons=0.5, **({"heads": 0.5} if heads else {}))
    assert "24 of 48 neurons of each layer" in remove_parts(task, model, wanted, [batch])
    model.save_pretrained(tmp_path / "small")
    small = kind.from_pretrained(tmp_path / "small").eval()
    assert small.config.intermediate_size == 24
    assert small.config.num_attention_heads == (2 if heads else 4)
    with torch.no_grad():
        assert task.outputs(small, batch).allclose(before, atol=1e-5)


def test_a_head_matters_as_much_as_the_loss_changes_by_a_gate_on_all_that_it_gives() -> None:
    """Michel et al. 2019, equation 2, by differences: what its numbers do to the loss may cancel out."""
    torch.manual_seed(0)
    linear, examples = torch.nn.Linear(6, 2), torch.randn(3, 6)

    def loss(example: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
        return linear(example * gates.repeat_interleave(3)).square().sum()

    found = measured({"head": (linear, 2)}, {}, [partial(loss, one, torch.ones(2)) for one in examples])
    step = torch.eye(2) * 1e-3
    slopes = [[(loss(x, 1 + by) - loss(x, 1 - by)).detach() / 2e-3 for by in step] for x in examples]
    torch.testing.assert_close(found.of_inputs["head"], torch.tensor(slopes).abs().sum(dim=0), rtol=1e-2, atol=1e-2)


def test_the_layer_that_changes_nothing_goes(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_models.qwen(tmp_path / "whole")).eval()
    silence(model, 0, [0, 1], list(range(48)))
    task = TextGeneration(Columns(), packing=False)
    before = task.outputs(model, NEXT).detach()
    assert remove_parts(task, model, structured(layers=0.5), [NEXT]) == "1 of 2 layers"
    model.save_pretrained(tmp_path / "small")
    small = AutoModelForCausalLM.from_pretrained(tmp_path / "small").eval()
    assert (small.config.num_hidden_layers, len(small.config.layer_types)) == (1, 1)
    assert task.outputs(small, NEXT).allclose(before, atol=1e-5)


async def test_a_smaller_classifier_is_evaluated_gated_and_served(
    wild_bert: Path, tickets: Path, tmp_path: Path
) -> None:
    gate = [{"metric": "accuracy", "baseline": "Trained", "maxRegression": 0.15}]
    prune = {"pattern": "Structured", "neurons": 0.5, "calibrationExamples": 16}
    wanted = config(tmp_path, wild_bert, tickets, [{"prune": prune, "gate": gate}], method=FULL, learningRate=2e-3)
    result, _ = run(wanted, tmp_path)
    (step,) = result.postprocess
    assert step.metrics != pytest.approx(result.metrics, abs=1e-6)
    (verdict,) = decide_gates(wanted.postprocess[0].gate, step.metrics, None, trained=TrainedModel(result.metrics))
    assert verdict.passed, verdict.message
    output = tmp_path / "output"
    found = report(made(output, "prune"))
    assert found["modelBytes"] < 0.95 * found["modelBytesBefore"]
    assert "on 16 training examples: 24 of 48 neurons" in (made(output, "prune") / "README.md").read_text()
    assert not (await answers(made(output, "prune"))).allclose(await answers(output), atol=1e-6)


async def test_a_smaller_writer_is_served(tiny_llama: Path, questions: Path, tmp_path: Path) -> None:
    prune = {"pattern": "Structured", "heads": 0.5, "neurons": 0.25, "layers": 0.5}
    changes = {"task": "TextGeneration", "method": FULL, "maxSteps": 2, "dataset": {"split": {"test": 0.2}}}
    result, _ = run(config(tmp_path, tiny_llama, questions, [{"prune": prune}], **changes), tmp_path)
    assert result.postprocess[0].metrics["loss"] != result.metrics["loss"]
    folder = made(tmp_path / "output", "prune")
    sizes = AutoConfig.from_pretrained(folder)
    assert (sizes.num_attention_heads, sizes.num_key_value_heads, sizes.head_dim) == (2, 1, 8)
    assert (sizes.intermediate_size, sizes.num_hidden_layers) == (36, 1)
    async with serving(folder, name="small") as server:
        response = await server.client.post("/v1/completions", json={"model": "small", "prompt": "question :"})
    assert response.status_code == 200, response.text


LLAMA = LlamaConfig(hidden_size=32, num_attention_heads=4, num_key_value_heads=4, intermediate_size=48)


@pytest.mark.parametrize(
    ("sizes", "parts", "expected"),
    [
        (GPT2Config(), {"neurons": 0.5}, "pattern: which parts a model of the type 'gpt2' can lose is not known"),
        (T5Config(), {"layers": 0.5}, "set Unstructured"),
        (BertConfig(), {"heads": 0.5}, "heads: a config.json of the type 'bert' has no size of a head.* neurons or"),
        (LLAMA, {"heads": 0.1}, r"heads: 0\.1 of 4 key-value heads is none; set at least 0\.25"),
        (LLAMA, {"heads": 0.25}, r"with 0\.25 of 4 key-value heads gone, .*not a multiple.* set one of 0\.5, 0\.75"),
        (BertConfig(num_hidden_layers=3), {"layers": 0.3}, r"layers: 0\.3 of 3 layers is none; set at least 0\.334"),
        (LlamaConfig(num_key_value_heads=1), {"heads": 0.5}, "heads: 0.5 of 1 key-value heads is none; remove it"),
    ],
)
def test_what_an_architecture_cannot_lose_is_refused(sizes: Any, parts: dict[str, float], expected: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"postprocess\[0\].prune\.{expected}|{expected}"):
        check_structure(sizes, structured(**parts), "postprocess[0].prune")


def steps(*wanted: dict[str, Any]) -> list[PostprocessStep]:
    return [PostprocessStep.model_validate(one) for one in wanted]


def test_the_next_step_is_judged_by_the_sizes_that_it_will_find() -> None:
    sizes = BertConfig(**{**tiny_models.SIZES, "intermediate_size": 64, "vocab_size": 32})
    model = BertForSequenceClassification(sizes)
    small = {"prune": {"pattern": "Structured", "neurons": 0.25}}
    int4 = {"quantize": {"scheme": "Int4WeightOnly", "groupSize": 32}}
    check_layers(steps(int4), model, ("classifier",))
    with pytest.raises(ConfigurationError, match=r"postprocess\[1\].quantize.groupSize: 48 inputs"):
        check_layers(steps(small, int4), model, ("classifier",))
    halved = {"pattern": "Structured", "layers": 0.5}
    with pytest.raises(ConfigurationError, match=r"postprocess\[1\].prune.layers: 0\.5 of 1 layers is none"):
        check_architecture(steps({"prune": halved}, {"name": "again", "prune": halved}), sizes)


def test_every_known_architecture_is_one_of_transformers() -> None:
    for kind in STRUCTURES:
        assert AutoConfig.for_model(kind).model_type == kind
