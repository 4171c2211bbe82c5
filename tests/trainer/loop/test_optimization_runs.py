"""Whole runs with the settings that change how weights move: a killed one goes on the same."""

import json
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.errors import ConfigurationError
from trainer.in_process import run
from trainer.jobs import job

STEPS = 8
SETTINGS: dict[str, dict[str, Any]] = {
    "plateau in float16": {
        "scheduler": "ReduceOnPlateau",
        "plateau": {"patience": 1, "factor": 0.5},
        "precision": "Float16",
        "layerwiseLearningRateDecay": 0.9,
        "optimizer": "Adafactor",
        "learningRate": 0.3,
        "lossSpike": {},
    },
    "8 bits, stable then decay": {
        "scheduler": "WarmupStableDecay",
        "decay": 0.5,
        "optimizer": "AdamW8bit",
        "l1": 1e-6,
        "labelSmoothing": 0.1,
        "dropout": 0.2,
        "minLearningRate": 1e-4,
    },
}


def config_of(root: Path, model: Path, data: Path, full: dict[str, Any], **settings: Any) -> Any:
    return job(
        root,
        model,
        data,
        method={"full": full},
        dataset={"split": {"validation": 0.3, "stratifyBy": "label"}},
        checkpoint={"everySteps": 4},
        **{"maxSteps": STEPS, "evaluateEverySteps": 1, **settings},
    )


@pytest.mark.parametrize("name", SETTINGS)
def test_a_killed_run_goes_on_the_same(name: str, tiny_bert: Path, tickets: Path, tmp_path: Path) -> None:
    settings = {"learningRate": 1e-2, **SETTINGS[name]}
    whole, expected = run(
        config_of(tmp_path / "a", tiny_bert, tickets, {"frozenLayers": 1}, **settings), tmp_path / "a"
    )
    broken = config_of(tmp_path / "b", tiny_bert, tickets, {"frozenLayers": 1}, **settings)
    _, before = run(broken, tmp_path / "b", end_at=6)
    resumed, after = run(broken, tmp_path / "b")
    assert min(after) == 5
    assert {**before, **after} == expected
    assert resumed.metrics == whole.metrics
    assert counters(tmp_path / "b") == counters(tmp_path / "a")


def counters(root: Path) -> dict[str, Any]:
    """What early stopping, the plateau, the watchdogs and the log remember at the end, but for the speed."""
    kept: dict[str, Any] = json.loads((root / f"checkpoints/step-{STEPS:08d}/counters.json").read_text())
    for line in kept["history"]["training"]:
        del line["tokensPerSecond"]
    return kept


def test_frozen_layers_and_modules_stay_as_they_are(tiny_bert: Path, tickets: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    full = {"frozenLayers": 1, "frozenModules": ["pooler"]}
    run(config_of(tmp_path, tiny_bert, tickets, full, learningRate=1e-3, maxSteps=2), tmp_path)
    before, after = load_file(tiny_bert / "model.safetensors"), load_file(tmp_path / "output/model.safetensors")
    changed = {name for name, tensor in before.items() if not tensor.equal(after[f"bert.{name}"])}
    assert {name.split(".layer.")[-1][0] for name in changed} == {"1"}, "only the upper of two layers"
    assert "the model, whose weights are " in (tmp_path / "memory-0").read_text()


@pytest.mark.parametrize(
    ("full", "expected"),
    [
        ({"frozenLayers": 3}, r"method\.full\.frozenLayers \(3\): the model has 2 layers"),
        ({"frozenModules": ["nosuch"]}, r"has no module 'nosuch'; some that it has: .*pooler"),
        ({"frozenModules": ["bert", "classifier"]}, "every weight is frozen"),
    ],
)
def test_freezing_what_is_not_there_is_refused(
    full: dict[str, Any], expected: str, tiny_bert: Path, tickets: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=expected):
        run(config_of(tmp_path, tiny_bert, tickets, full), tmp_path)


def test_dropout_reaches_every_rate_of_the_model() -> None:
    from transformers import BertConfig, GPT2Config, LlamaConfig, ResNetConfig

    from finetune_trainer.models.dropout import set_dropout

    bert, gpt2, llama = BertConfig(), GPT2Config(), LlamaConfig()
    for config in (bert, gpt2, llama):
        set_dropout(config, 0.3)
    assert (bert.hidden_dropout_prob, bert.attention_probs_dropout_prob, bert.classifier_dropout) == (0.3, 0.3, 0.3)
    assert (gpt2.resid_pdrop, gpt2.embd_pdrop, gpt2.attn_pdrop, llama.attention_dropout) == (0.3, 0.3, 0.3, 0.3)
    with pytest.raises(ConfigurationError, match="'resnet' have no dropout"):
        set_dropout(ResNetConfig(), 0.3)
