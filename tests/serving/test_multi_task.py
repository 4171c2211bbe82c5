"""One server for several heads: each request is for one of them."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune_api.artifact import ArtifactDescription, SubtaskDescription
from finetune_serving.multi_task_model import MultiTaskModel
from serving.artifacts import LABELS, finish
from serving.in_process import Serving, serving
from trainer.tiny_models import bert

SUBTASKS = {
    "intent": SubtaskDescription(task="TextClassification", labels=LABELS),
    "mood": SubtaskDescription(task="TextClassification", labels=["bad", "good"]),
    "answers": SubtaskDescription(task="QuestionAnswering"),
}
TEXTS = ["please refund the invoice", "where is my parcel"]


def described(folder: Path) -> ArtifactDescription:
    return ArtifactDescription(task="MultiTask", subtasks=SUBTASKS, max_length=64)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Serving]:
    folder = bert(tmp_path / "model", spread=0.2)
    torch.manual_seed(0)
    MultiTaskModel.from_pretrained(str(folder), heads=described(folder).heads).save_pretrained(folder)
    finish(folder, described(folder))
    async with serving(folder, name="support", version="support-1") as running:
        yield running


def tensors(**values: list[str]) -> list[dict[str, Any]]:
    return [{"name": n, "datatype": "BYTES", "shape": [len(data)], "data": data} for n, data in values.items()]


async def infer(server: Serving, inputs: list[dict[str, Any]], **parameters: Any) -> Any:
    return await server.client.post("/v2/models/support/infer", json={"inputs": inputs, "parameters": parameters})


async def test_each_subtask_answers_with_its_own_classes(server: Serving) -> None:
    for name in ("intent", "mood"):
        response = await infer(server, tensors(text=TEXTS), subtask=name)
        assert response.status_code == 200, response.text
        label, scores = response.json()["outputs"]
        known = SUBTASKS[name].labels or []
        assert scores["parameters"]["labels"] == known
        assert set(label["data"]) <= set(known)
        assert sum(scores["data"]) == pytest.approx(len(TEXTS))


async def test_the_model_tells_its_subtasks_and_what_they_take(server: Serving) -> None:
    metadata = (await server.client.get("/v2/models/support")).json()
    subtasks = metadata["parameters"]["subtasks"]
    assert {name: about["parameters"]["task"] for name, about in subtasks.items()} == {
        name: about.task for name, about in SUBTASKS.items()
    }
    assert [tensor["name"] for tensor in subtasks["answers"]["inputs"]] == ["question", "context"]
    assert [tensor["name"] for tensor in subtasks["mood"]["outputs"]] == ["label", "scores"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"subtask": "moods"}, "parameters.subtask: must be one of intent, mood, answers; got 'moods'"),
        ({}, "parameters.subtask: name the subtask that the request is for, one of intent, mood, answers"),
    ],
)
async def test_who_names_no_subtask_that_there_is_hears_which_there_are(
    server: Serving, parameters: dict[str, str], message: str
) -> None:
    response = await infer(server, tensors(text=TEXTS), **parameters)
    assert response.status_code == 400
    assert response.json() == {"error": message, "code": "invalid_value", "field": "parameters.subtask"}


async def test_inputs_of_another_subtask_are_refused(server: Serving) -> None:
    response = await infer(server, tensors(text=TEXTS), subtask="answers")
    assert response.status_code == 400
    assert "send the inputs 'question' and 'context'; got 'text'" in response.json()["error"]
