"""The mean of models that were trained from one base: model soups."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PromptTuningConfig
from safetensors.torch import load_file, save_file

from finetune_api.trainer_config import TrainerConfig
from finetune_operator.plan.gates import TrainedModel, decide_gates
from finetune_trainer.data.prepare import prepare
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.export.artifact import seal
from finetune_trainer.models.load import load_config
from finetune_trainer.postprocess.members import open_members
from finetune_trainer.run import Run
from finetune_trainer.tasks.selection import task_of
from trainer import tiny_models
from trainer.in_process import run
from trainer.jobs import FULL, LORA
from trainer.postprocess.test_chain import answers, config, made

QUERY = "encoder.layer.0.attention.self.query"


def averaging(root: Path, model: Path, data: Path, *models: Path, **changes: Any) -> TrainerConfig:
    average = {"models": [f"file://{folder}" for folder in models]}
    if metric := changes.pop("greedyBy", None):
        average["greedyBy"] = metric
    gate = [{"metric": "accuracy", "baseline": "Trained", "maxRegression": 0.1}]
    settings = {"method": FULL, "maxSteps": 16, "learningRate": 2e-3, **changes}
    return config(root, model, data, [{"average": average, "gate": gate}], **settings)


@pytest.fixture(scope="module")
def sibling(wild_bert: Path, tickets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained before, at another learning rate; its new head started out alike."""
    root = tmp_path_factory.mktemp("sibling")
    run(config(root, wild_bert, tickets, [], method=FULL, learningRate=1.5e-3), root)
    return root / "output"


@pytest.fixture(scope="module")
def adapter(wild_bert: Path, tickets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("adapter")
    run(config(root, wild_bert, tickets, [], method=LORA, maxSteps=4, seed=7), root)
    return root / "output"


def changed(folder: Path, target: Path, **description: Any) -> Path:
    """A copy of an artifact that says otherwise of itself."""
    shutil.copytree(folder, target)
    about = json.loads((target / "finetune.json").read_text())
    (target / "finetune.json").write_text(json.dumps(about | description))
    seal(target)
    return target


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


async def test_models_are_averaged_evaluated_gated_and_served(
    wild_bert: Path, tickets: Path, sibling: Path, tmp_path: Path
) -> None:
    wanted = averaging(tmp_path, wild_bert, tickets, sibling, maxSteps=40)
    result, _ = run(wanted, tmp_path)
    output = tmp_path / "output"
    own, other, found = weights(output), weights(sibling), weights(made(output, "average"))
    for name, weight in found.items():
        torch.testing.assert_close(weight, (own[name] + other[name]) / 2)
    (step,) = result.postprocess
    assert (step.name, step.format) == ("average", "Full")
    assert step.metrics["loss"] != result.metrics["loss"]
    (verdict,) = decide_gates(wanted.postprocess[0].gate, step.metrics, None, trained=TrainedModel(result.metrics))
    assert verdict.passed, verdict.message
    card = (made(output, "average") / "README.md").read_text()
    assert f"The weights of 2 models were averaged: this training, file://{sibling}." in card
    assert not (await answers(made(output, "average"))).allclose(await answers(output), atol=1e-6)


def test_a_greedy_soup_leaves_out_what_makes_it_worse(
    wild_bert: Path, tickets: Path, sibling: Path, tmp_path: Path
) -> None:
    spoilt = changed(sibling, tmp_path / "spoilt")
    worse = {name: -10 * one if name.startswith("classifier") else one for name, one in weights(sibling).items()}
    save_file(worse, spoilt / "model.safetensors", metadata={"format": "pt"})
    seal(spoilt)
    run(averaging(tmp_path, wild_bert, tickets, spoilt, sibling, greedyBy="loss"), tmp_path)
    card = (made(tmp_path / "output", "average") / "README.md").read_text()
    sentence = next(line for line in card.splitlines() if "chosen by loss on validation data" in line)
    assert "of 3," in sentence
    assert str(spoilt) not in sentence


def test_adapters_are_averaged_as_what_they_add_to_the_base(
    wild_bert: Path, tickets: Path, adapter: Path, tmp_path: Path
) -> None:
    run(averaging(tmp_path, wild_bert, tickets, adapter, method=LORA, maxSteps=4, learningRate=5e-3), tmp_path)
    base = weights(wild_bert)[f"{QUERY}.weight"]
    added = []
    for folder in (tmp_path / "output", adapter):
        parts = load_file(folder / "adapter_model.safetensors")
        scale = json.loads((folder / "adapter_config.json").read_text())
        pair = [next(one for name, one in parts.items() if f"{QUERY}.lora_{part}." in name) for part in "BA"]
        added.append(pair[0] @ pair[1] * scale["lora_alpha"] / scale["r"])
    found = weights(made(tmp_path / "output", "average"))[f"bert.{QUERY}.weight"]
    torch.testing.assert_close(found, base + (added[0] + added[1]) / 2, atol=1e-6, rtol=1e-5)


def test_a_model_of_another_base_is_refused(wild_bert: Path, tickets: Path, sibling: Path, tmp_path: Path) -> None:
    stranger = changed(sibling, tmp_path / "stranger")
    torch.manual_seed(3)
    others = {name: torch.randn_like(one) if one.dim() > 1 else one for name, one in weights(sibling).items()}
    save_file(others, stranger / "model.safetensors", metadata={"format": "pt"})
    seal(stranger)
    with pytest.raises(ConfigurationError, match=r"models\[0\]: .* was not trained from the base of this job"):
        run(averaging(tmp_path, wild_bert, tickets, stranger, maxSteps=1), tmp_path)


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        ({"task": "TokenClassification"}, "is a model for TokenClassification, not TextClassification"),
        ({"labels": ["a", "b"]}, "knows the classes a, b, and the data has billing, delivery, technical"),
        ({"format": "Onnx"}, "has the format Onnx, which has no weights to average"),
        (
            {"format": "Adapter", "baseModel": {"source": "hf://org/other", "revision": "1a2b"}},
            "is an adapter of hf://org/other at 1a2b, and this job trains file://",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_trained(
    description: dict[str, Any], expected: str, wild_bert: Path, tickets: Path, sibling: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=rf"postprocess\[0\].average.models\[0\]: .*{expected}"):
        opened(averaging(tmp_path, wild_bert, tickets, changed(sibling, tmp_path / "other", **description)), wild_bert)


def test_an_adapter_that_changes_no_weight_is_refused(
    wild_bert: Path, tickets: Path, adapter: Path, tmp_path: Path
) -> None:
    prompt = changed(adapter, tmp_path / "prompt")
    PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=4).save_pretrained(prompt)
    seal(prompt)
    with pytest.raises(ConfigurationError, match=r"models\[0\]: .* before texts, which is no part of a weight; remove"):
        opened(averaging(tmp_path, wild_bert, tickets, prompt, method=LORA), wild_bert)


@pytest.mark.parametrize(("seed", "greedy", "part"), [(1, None, "test"), (0, "f1", "validation")])
def test_a_model_that_may_have_learnt_from_what_judges_is_refused(
    seed: int, greedy: str | None, part: str, wild_bert: Path, tickets: Path, sibling: Path, tmp_path: Path
) -> None:
    """Of another split, or without validation data where the greedy soup chooses by it."""
    other = changed(sibling, tmp_path / "other")
    report = json.loads((other / "data_report.json").read_text())
    report["heldOut"].pop("validation")
    (other / "data_report.json").write_text(json.dumps(report))
    seal(other)
    split = {"validation": 0.1, "test": 0.2, "stratifyBy": "label", "seed": seed}
    wanted = averaging(tmp_path, wild_bert, tickets, other, dataset={"split": split}, greedyBy=greedy)
    expected = rf"models\[0\]: .* held out other examples than the {part} data of this job, .*dataset\.{part}"
    with pytest.raises(ConfigurationError, match=expected):
        opened(wanted, wild_bert)
    opened(averaging(tmp_path, wild_bert, tickets, other), wild_bert)


def opened(wanted: TrainerConfig, base: Path) -> None:
    task = task_of(wanted)
    processor, run_folder = task.load_processor(base), Path(wanted.output[7:])
    data = prepare(wanted.dataset, task, processor, wanted.max_length, run_folder, lambda uri: Path(uri[7:]))
    open_members(wanted, task, data, processor, load_config(base, task), Run(run_folder))


def test_other_sizes_and_damage_are_told(wild_bert: Path, tickets: Path, sibling: Path, tmp_path: Path) -> None:
    wider = tiny_models.bert(tmp_path / "wider", intermediate_size=64)
    with pytest.raises(ConfigurationError, match=r"another architecture: its .*intermediate.* has the sizes \(48"):
        opened(averaging(tmp_path, wider, tickets, sibling), wider)
    damaged = changed(sibling, tmp_path / "damaged")
    (damaged / "config.json").write_text("{}")
    with pytest.raises(ConfigurationError, match=r"models\[0\]: .*config\.json"):
        opened(averaging(tmp_path, wild_bert, tickets, damaged), wild_bert)
