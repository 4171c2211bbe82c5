"""Every task improves a model on data that it has not seen, resumes exactly, and is served over HTTP."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from exhaustive import EXHAUSTIVE, some_of
from finetune_api.metrics import better, metrics_of
from finetune_api.trainer_config import TrainerConfig
from serving.in_process import Serving, serving
from trainer.in_process import run
from trainer.jobs import job
from trainer.tasks import media_cases, task_cases
from trainer.tasks.task_cases import Answer, Case

STEPS = 24
EVERY_CASE = {**task_cases.CASES, **media_cases.CASES}
# Algorithms of reinforcement learning differ in advantages and losses, DETR in its mask: these have tests of their own.
# Marian is a BART whose tokenizer is another.
RARELY = {"leave-one-out-rewards", "object-detection-detr", "text-generation-qwen", "seq2seq-marian"}
CASES = some_of(EVERY_CASE, EVERY_CASE.keys() - RARELY)
# Two outputs, pictures of one size, pairs of numbers; test_chain converts a classifier of texts, test_onnx_writer what
# writes.
USUALLY_CONVERTED = ("question-answering", "image-classification-vit", "recommendation-uses")


@dataclass(frozen=True)
class Finished:
    """An unbroken run of a task."""

    case: Case
    root: Path
    model: Path
    data: Path
    result: Any
    losses: dict[int, float]

    def report(self) -> dict[str, Any]:
        return dict(json.loads((self.root / "output" / "evaluation.json").read_text()))


def job_of(case: Case, root: Path, model: Path, data: Path, **changes: Any) -> TrainerConfig:
    """Checkpoints every eight steps; a fifth of the data is held out."""
    training = {"maxSteps": STEPS, "learningRate": 1e-2, "microBatchSize": 4, **case.training, **changes}
    dataset = {"split": {"validation": 0.1, "test": 0.2}, **case.dataset, **training.pop("dataset", {})}
    if case.subtasks:
        split = dataset.pop("split")
        dataset |= {"train": None, "subtasks": [subtask(case, name, data, split) for name in case.subtasks]}
    parts = {"method": training.pop("method", case.method), "dataset": dataset, "checkpoint": {"everySteps": 8}}
    return job(root, model, data, task=case.task, architecture=case.architecture, **parts, **training)


def subtask(case: Case, name: str, data: Path, split: dict[str, float] | None) -> dict[str, Any]:
    """With the data that the case has written for it."""
    one, train = case.subtasks[name], {"source": f"file://{data}/{name}.jsonl"}
    return {"name": name, "task": one.task, "train": train, "split": split, **one.settings}


@pytest.fixture(scope="module", params=CASES)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    case, root = CASES[request.param], tmp_path_factory.mktemp(request.param)
    model, data = case.model(root / "model"), case.data(root / "data")
    config = job_of(case, root, model, data)
    if converted(request.param):
        config = TrainerConfig.model_validate({**config.wire(), "postprocess": [{"onnx": {"tolerance": 1e-4}}]})
    return Finished(case, root, model, data, *run(config, root))


def converted(name: str) -> bool:
    """Those whose model becomes a graph too: one of each kind of input and output, or all."""
    whole = "full" in EVERY_CASE[name].method and not EVERY_CASE[name].subtasks
    return whole and (EXHAUSTIVE or name in USUALLY_CONVERTED)


def test_it_improves_on_held_out_data(trained: Finished) -> None:
    case, metrics = trained.case, trained.result.metrics
    before = trained.report()["baselineMetrics"]
    subtasks = {name: one.task for name, one in case.subtasks.items()}
    known = set(metrics_of(case.task, "rating" in case.dataset.get("columns", {}), subtasks=subtasks))
    assert set(metrics) <= known
    assert known == {*metrics, *trained.result.not_computed}
    improved = {f"{name}/{one.metric}": one.reaches for name, one in case.subtasks.items()}
    for metric, reaches in {case.metric: case.reaches, **improved}.items():
        assert better(metric, metrics[metric], before[metric]), (metrics, before)
        assert not better(metric, reaches, metrics[metric]), metrics


def test_a_killed_run_goes_on_as_if_nothing_had_happened(trained: Finished, tmp_path: Path) -> None:
    if trained.case is EVERY_CASE["group-relative-rewards"] and not EXHAUSTIVE:
        pytest.skip("proximal-policy writes likewise, and is killed between two steps that learn from the same")
    config = job_of(trained.case, tmp_path, trained.model, trained.data)
    steps = len(trained.losses)
    _, before = run(config, tmp_path, end_at=steps - 6)
    result, after = run(config, tmp_path)
    assert (max(before), min(after)) == (steps - 6, steps - 7), "it went on from the checkpoint, 8 steps from the end"
    assert {**before, **after} == trained.losses
    assert result.metrics == trained.result.metrics


async def test_it_is_served_as_onnx(trained: Finished) -> None:
    if not trained.result.postprocess:
        pytest.skip("another case has the same kind of input and output")
    (graph,) = trained.result.postprocess
    assert graph.metrics == pytest.approx(trained.result.metrics, abs=1e-4)
    async with serving(trained.root / "output-onnx", name="tiny") as server:
        await answers_right(server, trained.case)


async def test_it_is_served(trained: Finished) -> None:
    async with serving(trained.root / "output", name="tiny", version="tiny-1") as server:
        await answers_right(server, trained.case)


async def answers_right(server: Serving, case: Case) -> None:
    """Writes what it should, or answers over the Open Inference Protocol."""
    metadata = (await server.client.get("/v2/models/tiny")).json()
    assert metadata["parameters"]["task"] == case.task
    assert bool(metadata["inputs"]) == bool(case.inputs)
    for prompt, expected in case.writes.items():
        body = {"model": "tiny", "prompt": prompt, "temperature": 0, "max_tokens": 16}
        response = await server.client.post("/v1/completions", json=body)
        assert response.status_code == 200, response.text
        assert response.json()["choices"][0]["text"].strip() == expected
    if case.inputs:
        await ask(server, case.inputs, case.answered, metadata)
    for name, one in case.subtasks.items():
        about = metadata["parameters"]["subtasks"][name]
        await ask(server, one.inputs, one.answered, about, subtask=name)


async def ask(
    server: Serving,
    values: dict[str, list[str]],
    answered: Callable[[Answer], None],
    metadata: dict[str, Any],
    **parameters: str,
) -> None:
    """One request over the Open Inference Protocol."""
    inputs = [{"name": n, "datatype": "BYTES", "shape": [len(data)], "data": data} for n, data in values.items()]
    assert [tensor["name"] for tensor in metadata["inputs"]] == list(values)
    body = {"inputs": inputs, "parameters": parameters}
    response = await server.client.post("/v2/models/tiny/infer", json=body)
    assert response.status_code == 200, response.text
    outputs = response.json()["outputs"]
    assert [tensor["name"] for tensor in outputs] == [tensor["name"] for tensor in metadata["outputs"]]
    answered({tensor["name"]: tensor["data"] for tensor in outputs})
