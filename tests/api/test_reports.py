"""Operator and trainer are of different versions while one of them is upgraded."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from finetune_api.attempts import RankStack as ShownStack
from finetune_api.fine_tune_job import DataSummary, Straggler
from finetune_api.reports import (
    ProgressReport,
    RankStack,
    Report,
    ReportedData,
    ReportedStraggler,
    TerminationMessage,
)

PROGRESS = {
    "attempt": 1,
    "stragglers": [{"rank": 1, "slowdown": 2.0}],
    "checkpoint": {"step": 8, "uri": "s3://checkpoints/8"},
    "data": {"train": 9},
    "preflight": {"status": "True", "reason": "Passed"},
}
LAST_WORDS = {
    "outcome": "Succeeded",
    "result": {
        "artifactUri": "s3://models/a",
        "artifactDigest": "sha256:1",
        "postprocess": [{"name": "merge", "artifactDigest": "sha256:2", "format": "Full"}],
    },
    "preflight": {"status": "True", "reason": "Passed"},
    "stacks": [{"rank": 0}],
}


def of_a_newer_trainer(report: Any) -> Any:
    if isinstance(report, list):
        return [of_a_newer_trainer(one) for one in report]
    if isinstance(report, dict):
        return {name: of_a_newer_trainer(value) for name, value in report.items()} | {"invented": "later"}
    return report


@pytest.mark.parametrize(("model", "report"), [(ProgressReport, PROGRESS), (TerminationMessage, LAST_WORDS)])
def test_what_an_older_operator_does_not_know_costs_it_nothing_else(
    model: type[Report], report: dict[str, Any]
) -> None:
    assert model.model_validate(of_a_newer_trainer(report)) == model.model_validate(report)


def test_an_outcome_of_a_newer_trainer_costs_neither_its_result_nor_its_words() -> None:
    known = TerminationMessage.model_validate(LAST_WORDS)
    newer = LAST_WORDS | {"outcome": "SucceededInPart", "result": LAST_WORDS["result"] | {"evaluatedOn": "folds"}}
    assert TerminationMessage.model_validate(newer) == known.model_copy(update={"outcome": "Crash"})
    told = TerminationMessage.model_validate({"outcome": "Throttled", "message": "slow down"})
    assert (told.outcome, told.message) == ("Crash", "slow down")
    for other in ({"outcome": "Throttled"}, {"outcome": 7, "message": "m"}, {"message": "m"}):
        with pytest.raises(ValidationError):
            TerminationMessage.model_validate(other)


@pytest.mark.parametrize(
    ("reported", "shown"), [(ReportedData, DataSummary), (ReportedStraggler, Straggler), (RankStack, ShownStack)]
)
def test_what_is_passed_on_as_it_is_has_its_place_in_the_status(
    reported: type[BaseModel], shown: type[BaseModel]
) -> None:
    """The API server would drop the rest without a word."""
    assert set(reported.model_fields) == set(shown.model_fields)


def test_a_stage_of_a_newer_trainer_costs_nothing_else_of_the_report() -> None:
    told = ProgressReport.model_validate(PROGRESS | {"stage": "Distilling"})
    assert told == ProgressReport.model_validate(PROGRESS).model_copy(update={"stage": None})
    with pytest.raises(ValidationError, match="stage"):
        ProgressReport.model_validate(PROGRESS | {"stage": 7})
