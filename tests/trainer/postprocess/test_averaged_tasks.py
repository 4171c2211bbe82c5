"""Averages of models with several heads, of detectors and of recommenders."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from exhaustive import some_of
from finetune_api.trainer_config import TrainerConfig
from trainer.in_process import run
from trainer.tasks.test_every_task import EVERY_CASE, job_of

METHODS: dict[str, dict[str, Any]] = {"full": {"full": {}}, "lora": {"lora": {"rank": 4}}}
TASKS = ("multi-task", "object-detection-yolos", "object-detection-detr", "recommendation-uses", "proximal-policy")
PAIRS = {f"{task}, {method}": (task, method) for task in TASKS for method in METHODS}
del PAIRS["recommendation-uses, lora"]  # refused: there is no base
SAVED = 8
"""Steps between checkpoints."""


def trained(name: str, method: str, root: Path, steps: list[dict[str, Any]], **settings: Any) -> Path:
    """Its output; made anew, base and data are the same."""
    case = EVERY_CASE[name]
    places = case.model(root.parent / "model"), case.data(root.parent / "data")
    config = job_of(case, root, *places, **{"method": METHODS[method], "maxSteps": 4, **settings})
    run(TrainerConfig.model_validate({**config.wire(), "postprocess": steps}), root)
    return root / "output"


def weights(folder: Path) -> dict[str, Tensor]:
    """Those that are averaged."""
    return {name: one for name, one in load_file(folder).items() if one.is_floating_point()}


def assert_mean(found: dict[str, Tensor], *members: dict[str, Tensor]) -> None:
    """Of the weights that have one name in all: backbones have other names in files, and critics are not exported."""
    shared = found.keys() & members[0].keys()
    assert len(shared) > len(found) / 3
    assert any(not torch.equal(members[0][name], members[-1][name]) for name in shared)
    for name in shared:
        expected = torch.stack([member[name] for member in members]).mean(0)
        torch.testing.assert_close(found[name], expected, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("pair", some_of(PAIRS, ()))
def test_a_soup_is_the_mean_of_whole_models(pair: str, tmp_path: Path) -> None:
    name, method = PAIRS[pair]
    merge: list[dict[str, Any]] = [] if method == "full" else [{"merge": {}}]
    other = trained(name, method, tmp_path / "other", merge, learningRate=2e-3)
    own = trained(name, method, tmp_path / "own", merge)
    average = {"models": [f"file://{other}"]}
    soup = trained(name, method, tmp_path / "soup", [{"average": average}])
    members = [one if method == "full" else one.with_name("output-merge") for one in (other, own)]
    assert_mean(
        weights(soup.with_name("output-average") / "model.safetensors"),
        *(weights(one / "model.safetensors") for one in members),
    )


@pytest.mark.parametrize("name", some_of({name: name for name in TASKS}, ()))
def test_checkpoints_are_averaged(name: str, tmp_path: Path) -> None:
    output = trained(name, "full", tmp_path / "job", [{"average": {"checkpoints": 2}}], maxSteps=2 * SAVED)
    folders = sorted((tmp_path / "job" / "checkpoints").glob("step-*"))
    assert len(folders) == 2
    passed = [weights(folder / "trainable.safetensors") for folder in folders]
    assert_mean(weights(output.with_name("output-average") / "model.safetensors"), *passed)
