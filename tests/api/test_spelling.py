"""Who misspells a field or a value is told which one there is."""

from typing import Any

import pytest

from finetune_api import errors
from finetune_api.fine_tune_job import FineTuneJobSpec
from finetune_api.model_deployment import ModelDeploymentSpec
from finetune_api.unknown import read

NEEDED = {
    "model": {"source": "s3://m"},
    "task": "TextClassification",
    "dataset": {"train": {"source": "s3://d"}},
    "method": {"lora": {}},
}
UNKNOWN = "unknown field; "
NO_IDEA = UNKNOWN + "remove it or correct its spelling"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"trainign": {}}, f"trainign: {UNKNOWN}did you mean training?"),
        ({"training": {"epoch": 3}}, f"training.epoch: {UNKNOWN}did you mean epochs?"),
        ({"training": {"learning_rate": 0.1}}, f"training.learning_rate: {UNKNOWN}did you mean learningRate?"),
        ({"training": {"BatchSize": 8}}, f"training.BatchSize: {UNKNOWN}did you mean batchSize?"),
        ({"method": {"loar": {}}}, f"method.loar: {UNKNOWN}did you mean lora?"),
        ({"evaluation": {"gate": [{"metric": "f1", "operater": ">=", "value": 1}]}}, "did you mean operator?"),
        ({"epochs": 3}, f"epochs: {UNKNOWN}did you mean training.epochs?"),
        ({"everySteps": 3}, f"everySteps: {UNKNOWN}did you mean checkpoint.everySteps?"),
        ({"bogus": 1}, f"bogus: {NO_IDEA}"),
        ({"source": "s3://d"}, f"source: {NO_IDEA}"),  # there are several
        ({"task": "textclasification"}, "got 'textclasification'; did you mean 'TextClassification'?"),
        ({"distributed": {"engine": "torchrun"}}, "got 'torchrun'; did you mean 'Torchrun'?"),
        ({"task": "Cooking"}, "got 'Cooking'"),
        (
            {"training": {"earlyStopping": {"metric": "acuracy"}}},
            "no metric 'acuracy'; did you mean 'accuracy'? It has",
        ),
    ],
    ids=str,
)
def test_the_name_or_value_that_is_meant_is_told_with_the_error(changes: dict[str, Any], told: str) -> None:
    errors = read(FineTuneJobSpec, NEEDED | changes)[1]
    (found,) = [error for error in errors if told in error]
    assert ("did you mean" in found) is ("did you mean" in told)


def test_of_any_resource() -> None:
    errors = read(ModelDeploymentSpec, {"modelNam": "tickets"})[1]
    assert "modelNam: unknown field; did you mean modelName?" in errors


def test_what_was_meant_is_guessed_for_no_more_errors_than_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """One guess looks at every field there is: of 20,000 unknown ones it took the operator a minute."""
    guessed: list[object] = []

    def count(*asked: object) -> None:
        guessed.append(asked)

    monkeypatch.setattr(errors, "field_meant", count)
    _, found = read(FineTuneJobSpec, {f"z{number}": 1 for number in range(500)})
    assert len(found) >= 500
    assert 0 < len(guessed) <= errors.MOST_TOLD
