"""Compiled layers learn the same, under the same names; what cannot be compiled says what to do.

The code generator itself is left out: what it makes is PyTorch's affair, and takes minutes here.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from transformers.modeling_layers import GradientCheckpointingLayer

from finetune_trainer.errors import ConfigurationError
from finetune_trainer.models import compilation
from finetune_trainer.models.compilation import check_compiler, compile_layers, explained_compilation
from trainer.in_process import run
from trainer.jobs import job

CPU = torch.device("cpu")


def config(root: Path, model: Path, data: Path, **settings: Any) -> Any:
    checkpoint = {"everySteps": 2}
    return job(root, model, data, task="TextGeneration", maxSteps=4, checkpoint=checkpoint, **settings)


def test_a_compiled_run_can_be_resumed_by_one_that_is_not(
    tiny_llama: Path, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compilation, "BACKEND", "aot_eager")
    _, expected = run(config(tmp_path / "a", tiny_llama, questions), tmp_path / "a")

    _, before = run(config(tmp_path / "b", tiny_llama, questions, compile=True), tmp_path / "b", end_at=4)
    _, after = run(config(tmp_path / "b", tiny_llama, questions), tmp_path / "b")

    assert min(after) == 3, "it went on from the checkpoint of step 2"
    assert {**before, **after} == pytest.approx(expected, rel=1e-4)
    saved = [set(load_file(tmp_path / name / "checkpoints/step-00000002/trainable.safetensors")) for name in "ab"]
    assert saved[0] == saved[1]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0


def test_without_a_compiler_the_job_is_refused_before_anything_is_loaded(
    tiny_llama: Path, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        ConfigurationError, match=r"training\.compile: there is no compiler \(g\+\+\).*compile to false"
    ):
        run(config(tmp_path, tiny_llama, questions, compile=True), tmp_path)


def test_a_compiler_may_have_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "my-compiler"
    compiler.touch(mode=0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("PATH", "")
    check_compiler(CPU)


def test_a_failing_compiler_is_a_wrong_configuration(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(compilation, "BACKEND", failing)
    model = compile_layers(AutoModelForCausalLM.from_pretrained(tiny_llama), CPU)
    with (
        pytest.raises(ConfigurationError, match=r"cannot compile this model \(.*no such kernel.*set compile to false"),
        explained_compilation(),
    ):
        model(input_ids=torch.ones(1, 3, dtype=torch.int64))


class Power(GradientCheckpointingLayer):
    """Unlike layers of other exponents, and with a function that all layers of transformers share."""

    def __init__(self, exponent: int) -> None:
        super().__init__()
        self.exponent = exponent
        self.weight = torch.nn.Parameter(torch.ones(2))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.weight * hidden**self.exponent


def test_however_many_kinds_of_layers_there_are_each_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = []

    def backend(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph

    monkeypatch.setattr(compilation, "BACKEND", backend)
    torch._dynamo.reset()
    model = torch.nn.Module()
    model.layers = torch.nn.ModuleList(Power(exponent) for exponent in range(2, 14))
    hidden = torch.ones(2)
    for layer in compile_layers(model, CPU).layers:
        hidden = layer(hidden)
    assert len(graphs) == len(model.layers)


def test_a_model_without_layers_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="has no list of layers"):
        compile_layers(torch.nn.Linear(2, 2), CPU)
