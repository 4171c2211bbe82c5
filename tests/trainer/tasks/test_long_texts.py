"""Long texts in windows, from training to the server: both read them alike."""

import json
from pathlib import Path
from typing import Any

import pytest

from finetune_api.artifact import ArtifactDescription
from finetune_trainer.metrics.answers import normal
from serving.in_process import Serving, serving
from trainer.in_process import run
from trainer.jobs import NUMBERS, job, write_jsonl
from trainer.tiny_models import bert

FILLING = ["hello", "my", "please", "the", "is", "broken", "where"]


def filled(n: int, words: list[str]) -> list[str]:
    """The words somewhere among thirty others."""
    others = [FILLING[(n * 3 + i * (1 + n % 3)) % 7] for i in range(30)]
    at = n * 7 % 29
    return [*others[:at], *words, *others[at:]]


def questions(count: int) -> list[dict[str, Any]]:
    rows = []
    for n in range(count):
        number = NUMBERS[n % 10]
        context = " ".join(filled(n, [number]))
        answers = {"text": [number], "answer_start": [context.index(number)]}
        rows.append({"question": "what question", "context": context, "answers": answers})
    return rows


THINGS = [["refund", "invoice"], ["parcel", "delivery"]]


def tagged(count: int) -> list[dict[str, Any]]:
    rows = []
    for n in range(count):
        thing = THINGS[n % 2]
        words = filled(n, thing)
        rows.append({"tokens": words, "tags": [TAGS[thing.index(w)] if w in thing else "O" for w in words]})
    return rows


TAGS = ["B-THING", "I-THING"]


def config(root: Path, model: Path, data: Path) -> Any:
    kinds = {"answers": "QuestionAnswering", "entities": "TokenClassification"}
    subtasks = [
        {
            "name": name,
            "task": kind,
            "train": {"source": f"file://{data}/{name}.jsonl"},
            "split": {"test": 0.2},
        }
        for name, kind in kinds.items()
    ]
    dataset = {"train": None, "subtasks": subtasks, "maxLength": 20, "overLength": "Split"}
    return job(
        root,
        model,
        data,
        task="MultiTask",
        method={"full": {}},
        dataset=dataset,
        checkpoint={"everySteps": 10},
        maxSteps=40,
        batchSize=32,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The root of a killed run that went on, and its result."""
    root = tmp_path_factory.mktemp("long")
    model = bert(root / "model", spread=0.1)
    write_jsonl(root / "data/answers.jsonl", questions(60))
    write_jsonl(root / "data/entities.jsonl", tagged(60))
    whole, expected = run(config(root / "a", model, root / "data"), root / "a")
    _, before = run(config(root / "b", model, root / "data"), root / "b", end_at=35)
    resumed, after = run(config(root / "b", model, root / "data"), root / "b")
    assert {**before, **after} == expected
    assert resumed.metrics == whole.metrics
    return root / "b", resumed


def test_it_learns_from_windows(trained: tuple[Path, Any]) -> None:
    root, result = trained
    report = json.loads((root / "output/evaluation.json").read_text())
    assert report["heldOut"]["examples"] == report["heldOut"]["split"] == 24
    assert report["subtasks"]["answers"]["questions"] == 12
    assert report["subtasks"]["entities"]["words"] == 12 * 32
    for metric in ("answers/exactMatch", "entities/f1"):
        assert result.metrics[metric] >= 0.9 > report["baselineMetrics"][metric]


async def infer(server: Serving, subtask: str, **values: list[str]) -> dict[str, list[Any]]:
    inputs = [{"name": n, "datatype": "BYTES", "shape": [len(data)], "data": data} for n, data in values.items()]
    body = {"inputs": inputs, "parameters": {"subtask": subtask}}
    response = await server.client.post("/v2/models/tiny/infer", json=body)
    assert response.status_code == 200, response.text
    return {tensor["name"]: tensor["data"] for tensor in response.json()["outputs"]}


async def test_the_server_reads_them_alike(trained: tuple[Path, Any]) -> None:
    output = trained[0] / "output"
    assert ArtifactDescription.model_validate_json((output / "finetune.json").read_text()).windows
    rows, texts = questions(60), tagged(60)
    async with serving(output, name="tiny") as server:
        asked = {name: [row[name] for row in rows] for name in ("question", "context")}
        found = await infer(server, "answers", **asked)
        right = [row["answers"]["text"][0] for row in rows]
        same = [normal(a) == normal(b) for a, b in zip(found["answer"], right, strict=True)]
        assert sum(same) >= 0.9 * len(rows)
        spans = zip(found["span"][::2], found["span"][1::2], strict=True)
        for row, answer, (start, end) in zip(rows, found["answer"], spans, strict=True):
            assert row["context"][start:end] == answer
        entities = await infer(server, "entities", text=[" ".join(row["tokens"]) for row in texts])
        whole = 0
        for row, answer in zip(texts, entities["entities"], strict=True):
            thing = " ".join(word for word in row["tokens"] if word not in FILLING)
            whole += [entity["text"] for entity in json.loads(answer)] == [thing]
        assert whole >= 0.9 * len(texts)
