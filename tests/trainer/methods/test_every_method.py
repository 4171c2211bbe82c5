"""Every method improves a model on data that it has not seen, resumes exactly, and is served as it was trained."""

import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BitsAndBytesConfig

from exhaustive import some_of
from finetune_api.method_support import refusal
from finetune_serving.artifact import open_artifact
from finetune_serving.generation import Generator, Sampling
from finetune_serving.loading import LoadedModel, load
from finetune_serving.settings import ModelSource
from finetune_trainer.models.quantization import keep_format
from trainer.in_process import run
from trainer.methods.method_runs import CASES, STEPS, Case, job_of


@dataclass(frozen=True)
class Finished:
    """An unbroken run of a method."""

    case: Case
    root: Path
    model: Path
    data: Path
    result: Any
    losses: dict[int, float]

    @property
    def baseline(self) -> dict[str, float]:
        report = json.loads((self.root / "output" / "evaluation.json").read_text())
        return dict(report["baselineMetrics"])


USUAL = ("dora", "qlora", "ia3", "prompt", "p", "prefix", "adalora")


@pytest.fixture(scope="module", params=some_of(CASES, USUAL))
def generator(
    request: pytest.FixtureRequest, tiny_gpt2: Path, questions: Path, tmp_path_factory: pytest.TempPathFactory
) -> Finished:
    case, root = CASES[request.param], tmp_path_factory.mktemp(request.param)
    result, losses = run(job_of(case, root, tiny_gpt2, questions, task="TextGeneration"), root)
    return Finished(case, root, tiny_gpt2, questions, result, losses)


def test_it_improves_on_held_out_data(generator: Finished) -> None:
    assert generator.result.format == "Adapter"
    assert generator.result.evaluated_on == "test"
    assert generator.result.metrics["loss"] < generator.baseline["loss"] - 0.02


def test_a_killed_run_goes_on_as_if_nothing_had_happened(generator: Finished, tmp_path: Path) -> None:
    config = job_of(generator.case, tmp_path, generator.model, generator.data, task="TextGeneration")
    _, before = run(config, tmp_path, end_at=10)
    assert max(before) == 10
    result, after = run(config, tmp_path)
    assert min(after) == 9, "it went on from the checkpoint of step 8"
    assert {**before, **after} == generator.losses
    assert list(generator.losses) == list(range(1, STEPS + 1))
    assert result.metrics == generator.result.metrics


def test_recomputed_activations_change_nothing_where_they_are_allowed(generator: Finished, tmp_path: Path) -> None:
    if refusal(next(iter(generator.case.method)), "training.gradientCheckpointing"):
        pytest.skip("refused by the support table")
    settings = {"task": "TextGeneration", "gradientCheckpointing": True}
    _, losses = run(job_of(generator.case, tmp_path, generator.model, generator.data, **settings), tmp_path, end_at=3)
    assert losses == pytest.approx({step: generator.losses[step] for step in (1, 2, 3)}, rel=1e-5)


def test_it_writes_what_it_was_trained_to_write(generator: Finished) -> None:
    served = serve(generator.root / "output", generator.root)
    reread = peft_model(generator)
    prompt = [10, 20, 30]
    written: list[int] = []
    Generator(served).generate(prompt, Sampling(max_tokens=5, temperature=0), written.append, threading.Event())
    ids = torch.tensor([prompt])
    for _ in written:
        with torch.inference_mode():
            logits = reread(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[:, -1]
        ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], dim=1)
    assert written == ids[0, len(prompt) :].tolist()
    with torch.inference_mode():
        answer = served.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[:, -1]
        expected = reread(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[:, -1]
    assert answer.allclose(expected, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in some_of(CASES, USUAL) if name not in ("rslora", "p-lstm")])
def test_it_classifies(name: str, wild_bert: Path, tickets: Path, tmp_path: Path) -> None:
    """Better than untrained, and served alike."""
    config = job_of(CASES[name], tmp_path, wild_bert, tickets, learningRate=CASES[name].learning_rate / 2, maxSteps=16)
    result, losses = run(config, tmp_path)
    finished = Finished(CASES[name], tmp_path, wild_bert, tickets, result, losses)
    assert result.metrics["loss"] < finished.baseline["loss"]
    served = serve(tmp_path / "output", tmp_path)
    ids = torch.tensor([[2, 10, 20, 30, 3, 0], [2, 11, 21, 3, 0, 0]])
    with torch.inference_mode():
        inputs = {"input_ids": ids, "attention_mask": (ids != 0).long()}
        assert served.model(**inputs).logits.allclose(peft_model(finished, num_labels=3)(**inputs).logits, atol=1e-5)


def serve(artifact: Path, scratch: Path) -> LoadedModel:
    source = ModelSource(uri=str(artifact), scratch=scratch)
    return load(source, open_artifact(source))


def peft_model(finished: Finished, **options: Any) -> Any:
    """As any user of PEFT would read it."""
    from peft import AutoPeftModelForCausalLM, AutoPeftModelForSequenceClassification

    kind = AutoPeftModelForSequenceClassification if options else AutoPeftModelForCausalLM
    if "qlora" in finished.case.method:
        about = json.loads((finished.root / "output" / "finetune.json").read_text())
        options["quantization_config"] = BitsAndBytesConfig.from_dict(about["quantization"])
    return keep_format(kind.from_pretrained(finished.root / "output", **options).eval())
