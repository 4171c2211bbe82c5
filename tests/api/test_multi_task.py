"""What several tasks on one encoder ask of a job, said when it is applied."""

from typing import Any

import pytest

from api.verdicts import by_the_crd, by_the_model
from finetune_api.dataset import MAX_SUBTASKS
from finetune_api.fine_tune_job import FineTuneJobSpec
from finetune_api.metrics import better, is_ratio, metrics_of

INTENT: dict[str, Any] = {
    "name": "intent",
    "task": "TextClassification",
    "train": {"source": "s3://data/intent.jsonl"},
    "split": {"validation": 0.1, "test": 0.1, "stratifyBy": "label"},
}
ENTITIES: dict[str, Any] = {
    "name": "entities",
    "task": "TokenClassification",
    "train": {"source": "s3://data/entities.jsonl"},
    "split": {"validation": 0.1, "test": 0.1},
}


def spec(*subtasks: dict[str, Any], dataset: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return {
        "model": {"source": "hf://google-bert/bert-base-uncased"},
        "task": "MultiTask",
        "dataset": {"subtasks": list(subtasks or (INTENT, ENTITIES)), **(dataset or {})},
        "method": {"lora": {}},
        **changes,
    }


def problems(body: dict[str, Any]) -> list[str]:
    return by_the_model(FineTuneJobSpec, body)


def test_metrics_of_subtasks_can_be_gated_and_watched() -> None:
    gates = [
        {"metric": "intent/accuracy", "operator": ">=", "value": 0.9},
        {"metric": "entities/f1", "baseline": "Deployed"},
        {"metric": "average", "operator": ">=", "value": 0.8},
    ]
    watched = {"earlyStopping": {"metric": "entities/f1"}}
    body = spec(evaluation={"gate": gates}, training=watched, publish={"modelName": "tickets"})
    assert problems(body) == []
    [unknown] = problems(spec(training={"earlyStopping": {"metric": "intent/exactMatch"}}))
    assert unknown.startswith("training.earlyStopping.metric: MultiTask has no metric 'intent/exactMatch'; use one of")
    assert "average, loss, intent/accuracy" in unknown
    [high] = problems(spec(evaluation={"gate": [{"metric": "intent/f1", "operator": ">=", "value": 90}]}))
    assert "intent/f1 lies between 0 and 1" in high


def test_a_metric_keeps_its_meaning_behind_the_name_of_its_subtask() -> None:
    assert metrics_of("MultiTask", rated=False, subtasks={"a": "QuestionAnswering"}) == (
        *("average", "loss"),
        *("a/f1", "a/exactMatch", "a/loss"),
    )
    assert better("a/loss", 0.1, 0.2)
    assert better("a/f1", 0.2, 0.1)
    assert is_ratio("a/f1")
    assert not is_ratio("a/loss")


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a task that writes": (
        spec(INTENT, {**ENTITIES, "task": "TextGeneration"}),
        "dataset.subtasks[1].task: heads of several subtasks can share an encoder of texts: use TextClassification, "
        "TokenClassification, QuestionAnswering, or train the other task by a job of its own; got 'TextGeneration'",
    ),
    "one name for two": (
        spec(INTENT, {**ENTITIES, "name": "intent"}),
        "dataset.subtasks[1].name: there are two subtasks 'intent'; name one of them otherwise",
    ),
    "a weight for one": (
        spec({**INTENT, "weight": 2}, ENTITIES),
        "dataset.subtasks[1].weight: other subtasks have a weight, which is relative to those of all; set it for each "
        "or for none",
    ),
    "weights and a temperature": (
        spec({**INTENT, "weight": 2}, {**ENTITIES, "weight": 1}, dataset={"mixingTemperature": 2}),
        "dataset.mixingTemperature: the weights of the subtasks settle their shares; remove one or the other",
    ),
    "held-out data of one alone": (
        spec(INTENT, {**ENTITIES, "split": {"test": 0.1}}),
        "dataset.subtasks[1]: holds out no validation data, unlike dataset.subtasks[0]; all subtasks are evaluated "
        "together, so give validation or split.validation to all or to none",
    ),
    "cleaning that would move entities": (
        spec(INTENT, {**ENTITIES, "cleaning": {"unicode": "NFC"}}),
        "dataset.subtasks[1].cleaning: unicode, whitespace and redact change texts, and TokenClassification data "
        "points into them; clean the texts before they are annotated",
    ),
    "columns for all": (
        spec(dataset={"columns": {"text": "body"}}),
        "dataset.columns: MultiTask has data for each subtask; move it to dataset.subtasks[].columns",
    ),
    "data for all": (
        spec(dataset={"train": {"source": "s3://data/all.jsonl"}}),
        "dataset.train: MultiTask has data for each subtask; move it to dataset.subtasks[].train",
    ),
    "no subtasks": (
        spec(dataset={"subtasks": None}),
        "dataset.subtasks: required for MultiTask; name two or more, each with its task and data",
    ),
    "subtasks of another task": (
        spec(dataset={"train": {"source": "s3://data/a.jsonl"}}, task="TextClassification"),
        "dataset.subtasks is for MultiTask, not TextClassification; remove it, or set task to MultiTask",
    ),
    "a temperature of another task": (
        spec(
            dataset={"train": {"source": "s3://data/a.jsonl"}, "subtasks": None, "mixingTemperature": 2},
            task="TextClassification",
        ),
        "dataset.mixingTemperature is for MultiTask, not TextClassification; remove it",
    ),
    "a model's own code": (
        spec(model={"source": "hf://acme/encoder", "trustRemoteCode": True}),
        "model.trustRemoteCode: the heads of MultiTask fit the encoders that transformers has, not one with code of "
        "its own; set it to false",
    ),
    "a graph": (
        spec(postprocess=[{"merge": {}}, {"onnx": {}}]),
        "postprocess[1].onnx: a graph with several heads cannot be made yet; remove it, or set quantize",
    ),
    "virtual tokens": (
        spec(method={"promptTuning": {}}),
        "method.promptTuning does not go with MultiTask: PEFT puts virtual tokens before the input of models with one "
        "head, not of several; use lora",
    ),
    "distillation": (
        spec(training={"distillation": {"teacher": "s3://models/teacher"}}),
        "training.distillation is for TextClassification, TextGeneration, Seq2Seq; remove it (got MultiTask)",
    ),
}


BY_THE_CRD = ("a task that writes", "no subtasks", "subtasks of another task", "data for all", "virtual tokens")


@pytest.mark.parametrize("case", BY_THE_CRD)
def test_the_api_server_refuses_it_without_the_webhook(case: str) -> None:
    body = {"kind": "FineTuneJob", "spec": REFUSED[case][0]}
    body["spec"]["dataset"] = {name: value for name, value in body["spec"]["dataset"].items() if value is not None}
    assert by_the_crd(body)


def test_the_api_server_takes_what_the_model_takes() -> None:
    assert by_the_crd({"kind": "FineTuneJob", "spec": spec()}) == []


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_with_the_field_and_the_mend(case: str) -> None:
    body, message = REFUSED[case]
    assert message in problems(body)


def test_data_is_required_where_there_are_no_subtasks() -> None:
    body = spec(dataset={"subtasks": None}, task="TextClassification")
    assert problems(body) == ["dataset.train: required for TextClassification"]


def test_there_are_no_more_subtasks_than_metrics_have_room() -> None:
    many = [{**INTENT, "name": f"intent-{n}"} for n in range(MAX_SUBTASKS + 1)]
    assert any("dataset.subtasks" in problem for problem in problems(spec(*many)))
    assert not problems(spec(*many[:-1]))
