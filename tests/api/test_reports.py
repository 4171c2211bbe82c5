"""Operator and trainer are of different versions while one of them is upgraded."""

from typing import Any

import pytest

from finetune_api.reports import ProgressReport, Report, TerminationMessage

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
