"""Warm-up and decay need room in the run; models and CRD say the same of it."""

from typing import Any

import pytest

from api.verdicts import by_the_crd, by_the_model
from finetune_api.fine_tune_job import FineTuneJobSpec

STABLE = {"scheduler": "WarmupStableDecay"}


def verdicts(training: dict[str, Any]) -> tuple[list[str], list[str]]:
    spec = {
        "model": {"source": "hf://google-bert/bert-base-uncased"},
        "task": "TextClassification",
        "dataset": {"train": {"source": "s3://data/train.jsonl"}},
        "method": {"lora": {}},
        "training": training,
    }
    body = {"apiVersion": "finetune-operator.io/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "a"}}
    return by_the_model(FineTuneJobSpec, spec), by_the_crd({**body, "spec": spec})


@pytest.mark.parametrize(
    "training",
    [
        {"maxSteps": 10, "warmup": 10},
        {"maxSteps": 10, "warmup": 11, **STABLE},
        {"warmup": 0.9, **STABLE},
        {"warmup": 0.5, "decay": 0.6, **STABLE},
        {"warmup": 50, "decay": 60, "maxSteps": 100, **STABLE},
        {"warmup": 0.5, "decay": 60, "maxSteps": 100, **STABLE},
        {"warmup": 90, "maxSteps": 100, **STABLE},
    ],
    ids=str,
)
def test_a_run_without_room_for_them_is_refused(training: dict[str, Any]) -> None:
    of_model, of_crd = verdicts(training)
    assert any("training: warmup" in error for error in of_model), of_model
    assert any("warmup" in error for error in of_crd), of_crd


@pytest.mark.parametrize(
    "training",
    [
        {"maxSteps": 10, "warmup": 9},
        {"maxSteps": 1, "warmup": 0.5},
        {"warmup": 500},
        {"warmup": 0.8, **STABLE},
        {"warmup": 0.7, "decay": 0.3, **STABLE},
        {"warmup": 500, "decay": 0.9, **STABLE},
        {"warmup": 0.25, "decay": 0.75, "maxSteps": 10, **STABLE},
        {"warmup": 80, "maxSteps": 100, **STABLE},
    ],
    ids=str,
)
def test_with_room_they_are_taken(training: dict[str, Any]) -> None:
    assert verdicts(training) == ([], [])
