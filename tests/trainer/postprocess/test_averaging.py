"""The mean of the weights that a training passed through."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from exhaustive import exhaustive
from finetune_api.trainer_config import TrainerConfig
from finetune_trainer.checkpoint.retention import Series
from finetune_trainer.errors import ConfigurationError
from serving.in_process import serving
from trainer.in_process import run
from trainer.jobs import FULL, job

LAYER = "model.layers.0.self_attn.q_proj"
EVERY, STEPS = 3, 8


def config(root: Path, model: Path, data: Path, method: dict[str, Any], **checkpoint: Any) -> TrainerConfig:
    """Checkpoints after steps 3, 6 and 8, of which one would be kept."""
    common = {"task": "TextGeneration", "method": method, "dataset": {"split": {"test": 0.2}}}
    saved = {"everySteps": EVERY, "keep": 1, **checkpoint}
    wanted = job(root, model, data, checkpoint=saved, maxSteps=STEPS, learningRate=1e-2, **common)
    return TrainerConfig.model_validate({**wanted.wire(), "postprocess": [{"average": {"checkpoints": 3}}]})


def passed_through(root: Path) -> list[dict[str, torch.Tensor]]:
    """The trained weights of every checkpoint that is there."""
    folders = sorted((root / "checkpoints").glob("step-*"))
    assert [int(folder.name.split("-")[1]) for folder in folders] == [3, 6, 8], "kept for the average"
    return [load_file(folder / "trainable.safetensors") for folder in folders]


def averaged(root: Path) -> dict[str, torch.Tensor]:
    return load_file(root / "output-average" / "model.safetensors")


async def test_weights_are_averaged_evaluated_and_served(tiny_llama: Path, questions: Path, tmp_path: Path) -> None:
    wanted = config(tmp_path, tiny_llama, questions, FULL)
    # Validation gets worse after the first steps: the best weights, of an earlier one, have no part in the mean.
    training = {"learningRate": 0.1, "evaluateEverySteps": 1, "earlyStopping": {"metric": "loss", "patience": 100}}
    split = {"split": {"test": 0.2, "validation": 0.2}}
    changes = {"training": wanted.training.wire() | training, "dataset": wanted.dataset.wire() | split}
    result, _ = run(TrainerConfig.model_validate({**wanted.wire(), **changes}), tmp_path)
    passed, found = passed_through(tmp_path), averaged(tmp_path)
    best = load_file(tmp_path / "output" / "model.safetensors")
    assert not best["lm_head.weight"].equal(passed[-1]["lm_head.weight"])
    for name, weight in found.items():
        torch.testing.assert_close(weight, torch.stack([each[name] for each in passed]).mean(0), atol=1e-6, rtol=1e-5)
    (step,) = result.postprocess
    assert (step.name, step.format) == ("average", "Full")
    assert step.metrics["loss"] != result.metrics["loss"]
    assert "The weights after steps 3, 6, 8 were averaged" in (tmp_path / "output-average" / "README.md").read_text()
    async with serving(tmp_path / "output-average", name="mean") as server:
        response = await server.client.post("/v1/completions", json={"model": "mean", "prompt": "question :"})
    assert response.status_code == 200, response.text


def test_adapters_are_averaged_as_what_they_add_to_the_base_even_after_a_kill(
    tiny_llama: Path, questions: Path, tmp_path: Path
) -> None:
    wanted = config(tmp_path, tiny_llama, questions, {"lora": {"rank": 4, "alpha": 12}})
    run(wanted, tmp_path, end_at=7)
    run(wanted, tmp_path)
    parts = [
        [each[f"base_model.model.{LAYER}.lora_{part}.default.weight"].double() for part in "BA"]
        for each in passed_through(tmp_path)
    ]
    base = load_file(tiny_llama / "model.safetensors")[f"{LAYER}.weight"]
    right = base + 3 * torch.stack([b @ a for b, a in parts]).mean(0)
    wrong = base + 3 * torch.stack([b for b, _ in parts]).mean(0) @ torch.stack([a for _, a in parts]).mean(0)
    found = averaged(tmp_path)[f"{LAYER}.weight"].double()
    torch.testing.assert_close(found, right.double(), atol=1e-6, rtol=1e-5)
    assert (found - wrong).abs().max() > 100 * (found - right).abs().max()


@exhaustive
@pytest.mark.parametrize(
    "method", [{"lora": {"init": "PiSSA"}}, {"lora": {"dora": True}}, {"ia3": {}}, {"qlora": {}}], ids=str
)
def test_the_mean_of_models_that_hardly_moved_is_the_base(
    method: dict[str, Any], tiny_llama: Path, questions: Path, tmp_path: Path
) -> None:
    wanted = config(tmp_path, tiny_llama, questions, method)
    training = wanted.training.model_copy(update={"learning_rate": 1e-9})
    run(wanted.model_copy(update={"training": training}), tmp_path)
    base = load_file(tiny_llama / "model.safetensors")[f"{LAYER}.weight"]
    off = (averaged(tmp_path)[f"{LAYER}.weight"] - base).abs()
    if "qlora" in method:  # which was rounded to 4 bits
        assert off.mean() < 0.3 * base.abs().mean()
    else:
        assert off.max() < 1e-5


def test_a_run_too_short_for_its_average_is_refused_before_it_is_trained(
    tiny_llama: Path, questions: Path, tmp_path: Path
) -> None:
    expected = r"checkpoints: 8 steps with a checkpoint every 5 make 2, not 3; lower it, or checkpoint\.everySteps"
    with pytest.raises(ConfigurationError, match=expected):
        run(config(tmp_path, tiny_llama, questions, FULL, everySteps=5), tmp_path)


def test_a_checkpoint_of_a_preemption_is_not_of_the_series() -> None:
    names = ["step-00000009", "step-00000008", "step-00000006-2", "step-00000006", "step-00000005", "step-00000003"]
    assert Series(3, 2).of(names) == ["step-00000009", "step-00000006-2"]
    assert Series(3, 4).of(names[1:], last_step=8) == ["step-00000008", "step-00000006-2", "step-00000003"]
