"""Beside adapters the base is held in the type that it is multiplied in, and nothing else changes."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from exhaustive import exhaustive
from finetune_api.dataset import Columns
from finetune_api.method import Method
from finetune_api.method_support import refusal
from finetune_trainer.loop.forward import precision_context
from finetune_trainer.methods import apply_method
from finetune_trainer.models.frozen_precision import IN_FLOAT32, FrozenPrecision, frozen_precision, widened
from finetune_trainer.models.load import load_config, load_model
from finetune_trainer.tasks.text_classification import TextClassification
from finetune_trainer.tasks.text_generation import TextGeneration
from trainer.in_process import run
from trainer.jobs import LORA
from trainer.methods.method_runs import CASES, job_of
from trainer.tasks.test_every_task import EVERY_CASE
from trainer.tasks.test_every_task import job_of as job_of_task

GENERATION = TextGeneration(Columns(), packing=False)
CLASSIFICATION = TextClassification(Columns())
IN_BFLOAT16 = FrozenPrecision(torch.bfloat16, (*CLASSIFICATION.heads,))
IDS = torch.arange(5, 25).view(2, 10)


def loaded(folder: Path, frozen: FrozenPrecision, task: Any = GENERATION, labels: tuple[str, ...] = ()) -> Any:
    processor = task.load_processor(folder)
    return load_model(folder, load_config(folder, task), task, list(labels), processor, frozen=frozen)


def published_in_bfloat16(folder: Path, target: Path) -> Path:
    """As most language models are."""
    import shutil

    from transformers import AutoModelForCausalLM

    shutil.copytree(folder, target)
    AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(target)
    return target


@pytest.mark.parametrize("family", ["tiny_llama", "tiny_gpt2", "tiny_deepseek"])
def test_matrices_are_held_in_bfloat16_and_the_rest_in_float32(family: str, request: pytest.FixtureRequest) -> None:
    model = loaded(request.getfixturevalue(family), IN_BFLOAT16).model
    for name, parameter in model.named_parameters():
        multiplied = parameter.ndim > 1 and not name.endswith("mlp.gate.weight")  # a router, computed in float32
        assert parameter.dtype == (torch.bfloat16 if multiplied else torch.float32), name


def test_weights_are_rounded_as_they_are_read(tiny_deepseek: Path) -> None:
    """Else the model would stand in memory in float32 for a moment."""
    from transformers import AutoModelForCausalLM

    with IN_BFLOAT16.reading():
        model = AutoModelForCausalLM.from_pretrained(tiny_deepseek, dtype=torch.float32)
    before = {name: p.dtype for name, p in model.named_parameters()}
    assert {name: p.dtype for name, p in IN_BFLOAT16.settle(model).named_parameters()} == before
    assert Counter(before.values())[torch.bfloat16] > Counter(before.values())[torch.float32]
    later = AutoModelForCausalLM.from_pretrained(tiny_deepseek, dtype=torch.float32)
    assert {p.dtype for p in later.parameters()} == {torch.float32}


@pytest.mark.parametrize("family", ["tiny_llama", "tiny_gpt2"])
@pytest.mark.parametrize("precision", ["BFloat16", "Float16"])
def test_a_model_published_in_bfloat16_computes_the_same(
    family: str, precision: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Bit for bit what autocast makes of float32 weights, which it rounds again for each product."""
    folder = published_in_bfloat16(request.getfixturevalue(family), tmp_path / "model")
    held = frozen_precision(Method.model_validate(LORA), precision, ())
    whole, half = loaded(folder, IN_FLOAT32).model.eval(), loaded(folder, held).model.eval()
    with torch.no_grad(), precision_context(precision, torch.device("cpu")):
        assert half(input_ids=IDS).logits.equal(whole(input_ids=IDS).logits)
    with torch.no_grad(), widened(half):  # the smallest numbers of bfloat16 are none of float16
        assert half(input_ids=IDS).logits.allclose(whole(input_ids=IDS).logits, rtol=0, atol=1e-5)
    assert {p.dtype for p in half.parameters() if p.ndim > 1} == {held.dtype}, "each layer was narrowed again"


@pytest.mark.parametrize("name", [name for name in CASES if name != "pissa"])
def test_all_that_is_trained_is_float32(name: str, tiny_gpt2: Path) -> None:
    method = Method.model_validate(CASES[name].method)
    frozen = frozen_precision(method, "BFloat16", GENERATION.heads)
    model = apply_method(loaded(tiny_gpt2, frozen), method, GENERATION.load_processor(tiny_gpt2), 20).model
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert {p.dtype for p in trained.values()} == {torch.float32}
    assert not [n for n in trained if "ranknum" in n], "a count of AdaLoRA's"


def test_a_new_head_and_the_pooler_below_it_stay_in_float32(tiny_bert: Path) -> None:
    model = loaded(tiny_bert, IN_BFLOAT16, CLASSIFICATION, ("a", "b")).model
    assert {model.classifier.weight.dtype, model.bert.pooler.dense.weight.dtype} == {torch.float32}
    assert model.bert.encoder.layer[0].intermediate.dense.weight.dtype == torch.bfloat16


def test_what_is_left_beside_pissa_and_what_is_trained_whole_stays_exact() -> None:
    for method in ({"full": {"frozenLayers": 1}}, {"lora": {"init": "PiSSA"}}):
        assert frozen_precision(Method.model_validate(method), "BFloat16", ()) == IN_FLOAT32
    assert frozen_precision(Method.model_validate(LORA), "Float32", ()) == IN_FLOAT32


def merged(root: Path, model: Path, data: Path, **settings: Any) -> Any:
    config = job_of(CASES["dora"], root, model, data, task="TextGeneration", **settings)
    return type(config).model_validate({**config.wire(), "postprocess": [{"merge": {}}]})


def test_a_run_learns_as_in_float32_resumes_exactly_and_merges(
    tiny_llama: Path, questions: Path, tmp_path: Path
) -> None:
    places = tiny_llama, questions
    _, expected = run(job_of(CASES["dora"], tmp_path / "a", *places, task="TextGeneration"), tmp_path / "a")
    whole, losses = run(merged(tmp_path / "b", *places, precision="BFloat16"), tmp_path / "b")
    assert losses == pytest.approx(expected, rel=0.01)
    assert losses != expected
    (step,) = whole.postprocess
    assert step.metrics["loss"] == pytest.approx(whole.metrics["loss"], rel=2e-3)
    weights = load_file(tmp_path / "b/output-merge/model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    broken = merged(tmp_path / "c", *places, precision="BFloat16")
    _, before = run(broken, tmp_path / "c", end_at=10)
    resumed, after = run(broken, tmp_path / "c")
    assert {**before, **after} == losses
    assert resumed.metrics == whole.metrics


@exhaustive
@pytest.mark.parametrize("name", CASES)
def test_every_method_learns_as_in_float32(name: str, tiny_gpt2: Path, questions: Path, tmp_path: Path) -> None:
    """The trainer reads every export back and compares it with what it trained."""
    found = {}
    for precision in ("Float32", "BFloat16"):
        root = tmp_path / precision
        settings = {"task": "TextGeneration", "precision": precision}
        found[precision] = run(job_of(CASES[name], root, tiny_gpt2, questions, **settings), root)[1]
    assert found["BFloat16"] == pytest.approx(found["Float32"], rel=0.01)


@exhaustive
@pytest.mark.parametrize("name", [name for name, case in EVERY_CASE.items() if not refusal("lora", case.task)])
def test_models_of_every_kind_train_beside_it(name: str, tmp_path: Path) -> None:
    case = EVERY_CASE[name]
    model, data = case.model(tmp_path / "model"), case.data(tmp_path / "data")
    found = {}
    for precision in ("Float32", "BFloat16"):
        settings = {"method": {"lora": {}}, "maxSteps": 4, "precision": precision}
        config = job_of_task(case, tmp_path / precision, model, data, **settings, dataset={"split": {"test": 0.2}})
        found[precision] = run(config, tmp_path / precision)[1]
    assert found["BFloat16"][1] == pytest.approx(found["Float32"][1], rel=0.02)
