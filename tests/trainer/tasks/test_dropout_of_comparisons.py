"""Losses that compare with the model before training start where nothing differs, dropout in its config or not."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainer.in_process import run
from trainer.jobs import job
from trainer.tasks.task_cases import judged, preferences, questions_with_answers, rewarded


@pytest.mark.parametrize(
    ("task", "data", "training", "first"),
    [
        ("PreferenceOptimization", preferences, {"preference": {"beta": 5}}, math.log(2)),
        ("PreferenceOptimization", judged, {"preference": {"loss": "KTO", "beta": 5}}, 0.5),
        ("ReinforcementLearning", questions_with_answers, {"reinforcement": {**rewarded("GRPO"), "beta": 5}}, 0.0),
    ],
    ids=["DPO", "KTO", "GRPO"],
)
def test_the_first_loss_is_that_of_an_unchanged_model(
    task: str,
    data: Callable[[Path], Path],
    training: dict[str, Any],
    first: float,
    tiny_gpt2: Path,
    tmp_path: Path,
) -> None:
    model = shutil.copytree(tiny_gpt2, tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"embd_pdrop": 0.5, "resid_pdrop": 0.5, "attn_pdrop": 0.5}))
    method = {"lora": {"rank": 4}}
    _, losses = run(job(tmp_path, model, data(tmp_path), task=task, method=method, maxSteps=1, **training), tmp_path)
    assert losses[1] == pytest.approx(first, abs=1e-5)


def test_what_learns_once_compares_each_pass_with_itself(tiny_gpt2: Path, tmp_path: Path) -> None:
    """Dropout stays on and the ratio of probabilities is 1 all the same: the first losses agree, later ones do not."""
    data, found = questions_with_answers(tmp_path), []
    for name, rate in (("without", 0.0), ("with", 0.5)):
        model = shutil.copytree(tiny_gpt2, tmp_path / name / "model")
        config = json.loads((model / "config.json").read_text())
        rates = dict.fromkeys(("embd_pdrop", "resid_pdrop", "attn_pdrop"), rate)
        (model / "config.json").write_text(json.dumps(config | rates))
        settings = {"reinforcement": {**rewarded("RLOO"), "beta": 0}, "maxSteps": 2, "seed": 1}
        method = {"lora": {"rank": 4}}
        job_with = job(tmp_path / name, model, data, task="ReinforcementLearning", method=method, **settings)
        found.append(run(job_with, tmp_path / name)[1])
    without, with_dropout = found
    assert with_dropout[1] == pytest.approx(without[1], abs=1e-6)
    assert with_dropout[2] != pytest.approx(without[2], abs=1e-6)
