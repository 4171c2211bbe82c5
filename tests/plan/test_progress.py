from datetime import timedelta
from typing import Any

import pytest

from finetune_api.fine_tune_job import Progress
from finetune_api.reports import ProgressReport
from finetune_operator.plan.progress import is_news, reported_status
from plan.builders import NOW


def report(**fields: Any) -> ProgressReport:
    return ProgressReport.model_validate({"attempt": 1, "step": 40, "totalSteps": 120, **fields})


def status(**fields: Any) -> dict:
    return {"attempt": 1, "attempts": [{"number": 1, "startedAt": "2026-11-22T08:00:00Z"}], **fields}


def test_a_report_becomes_progress() -> None:
    fields = reported_status(status(), report(loss=0.412, tokensPerSecond=900, etaSeconds=60, epoch=1.0), NOW)
    assert Progress.model_validate(fields["progress"]).text == "40/120"
    assert (fields["progress"]["percent"], fields["progress"]["percentText"]) == (33.3, "33%")
    assert fields["progress"]["updatedAt"] == "2026-11-22T09:00:00Z"
    assert "lastCheckpoint" not in fields


def test_steps_of_an_unknown_total_are_not_shown_as_a_share() -> None:
    fields = reported_status(status(), report(step=0, totalSteps=0, stage="Preparing"), NOW)["progress"]
    assert (fields["text"], fields["percentText"], fields["stage"]) == ("", "", "Preparing")


def test_a_stage_that_only_a_newer_trainer_has_leaves_the_one_before() -> None:
    told = report(stage="Distilling", step=41)
    for stage, percent in (("Training", 34.2), ("Exporting", 100)):
        before = {"attempt": 1, "step": 40, "stage": stage}
        shown = reported_status(status(progress=before), told, NOW)["progress"]
        assert (Progress.model_validate(shown).stage, shown["step"], shown["percent"]) == (stage, 41, percent)
    of_another_attempt = status(progress={"attempt": 0, "step": 50, "stage": "Exporting"})
    assert reported_status(of_another_attempt, told, NOW)["progress"]["stage"] == "Preparing"


def test_a_training_that_stopped_early_is_done_and_one_that_evaluates_may_go_on() -> None:
    fields = reported_status(status(), report(step=90, stage="Evaluating", etaSeconds=60), NOW)["progress"]
    assert (fields["text"], fields["percentText"], fields["etaSeconds"]) == ("90/120", "75%", 60)
    fields = reported_status(status(), report(step=90, stage="Exporting", etaSeconds=60), NOW)["progress"]
    assert (fields["text"], fields["percentText"], fields["etaSeconds"]) == ("90/120", "100%", 0)
    assert fields["percent"] == 100


def test_a_metric_that_is_not_a_number_costs_only_itself() -> None:
    fields = reported_status(status(), report(bestMetric={"f1": 0.5, "perplexity": None}), NOW)
    assert (fields["progress"]["step"], fields["bestMetric"]) == (40, {"f1": 0.5})


# The operator writes updatedAt and verifiedAt, the API server startedAt; neither clock need be right.
CLOCKS = pytest.mark.parametrize("written", ["2026-11-22T07:59:40Z", "2026-11-22T08:30:00Z"], ids=["behind", "ahead"])
NOT_STARTED = {"attempts": [{"number": 1}]}


@CLOCKS
@pytest.mark.parametrize("change", [{}, NOT_STARTED], ids=["started", "not-started-yet"])
def test_the_step_never_goes_back_within_an_attempt(written: str, change: dict) -> None:
    known = {"attempt": 1, "step": 50, "updatedAt": written}
    assert reported_status(status(progress=known, **change), report(), NOW) == {}
    assert reported_status(status(progress=known, **change), report(step=50), NOW)


@CLOCKS
def test_a_new_attempt_may_start_from_an_earlier_step(written: str) -> None:
    known = {"attempt": 1, "step": 50, "updatedAt": written}
    second = {"attempt": 2, "attempts": [{"number": 2, "startedAt": "2026-11-22T08:00:00Z"}]}
    assert reported_status(status(progress=known, **second), report(attempt=2), NOW)["progress"]["step"] == 40


@pytest.mark.parametrize(
    "change",
    [
        {"conditions": [{"type": "Succeeded", "status": "True"}]},
        {"conditions": [{"type": "Failed", "status": "True"}]},
        {"attempt": 2},
        {"attempts": [{"number": 1, "endedAt": "2026-11-22T08:30:00Z"}]},
    ],
)
def test_what_is_over_is_not_touched(change: dict) -> None:
    assert reported_status(status(**change), report(), NOW) == {}


def test_the_last_checkpoint_of_an_attempt_counts_when_it_has_ended_already() -> None:
    over = status(
        attempts=[{"number": 1, "startedAt": "2026-11-22T08:00:00Z", "endedAt": "2026-11-22T08:30:00Z"}],
        lastCheckpoint={"attempt": 1, "step": 30, "uri": "s3://c/30", "verifiedAt": "2026-11-22T08:20:00Z"},
    )
    saved = report(checkpoint={"step": 40, "uri": "s3://c/40"}, bestMetric={"f1": 0.9})
    assert list(reported_status(over, saved, NOW)) == ["lastCheckpoint"]
    assert reported_status(over, report(checkpoint={"step": 20, "uri": "s3://c/20"}), NOW) == {}


def test_stragglers_are_named_and_forgotten() -> None:
    slow = report(stragglers=[{"rank": 3, "slowdown": 2.1}])
    shown = reported_status(status(), slow, NOW)["progress"]
    assert Progress.model_validate(shown).stragglers[0].rank == 3
    assert reported_status(status(progress=shown), report(), NOW)["progress"]["stragglers"] is None


def test_a_checkpoint_keeps_the_time_when_it_was_verified() -> None:
    reported = report(checkpoint={"step": 40, "uri": "s3://c/40"})
    first = reported_status(status(), reported, NOW)["lastCheckpoint"]
    assert first == {"attempt": 1, "step": 40, "uri": "s3://c/40", "verifiedAt": "2026-11-22T09:00:00Z"}
    later = reported_status(status(lastCheckpoint=first), reported, NOW + timedelta(seconds=9))
    assert later["lastCheckpoint"] == first


@CLOCKS
def test_an_older_checkpoint_counts_only_after_a_restart(written: str) -> None:
    older = report(checkpoint={"step": 20, "uri": "s3://c/20"})
    known = {"attempt": 1, "step": 40, "uri": "s3://c/40", "verifiedAt": written}
    for change in ({}, NOT_STARTED):
        assert "lastCheckpoint" not in reported_status(status(lastCheckpoint=known, **change), older, NOW)
    restarted = status(lastCheckpoint=known, attempt=2, attempts=[{"number": 2, "startedAt": "2026-11-22T08:00:00Z"}])
    again = older.model_copy(update={"attempt": 2})
    assert reported_status(restarted, again, NOW)["lastCheckpoint"]["step"] == 20


def test_numbers_are_short_enough_to_read() -> None:
    fields = reported_status(status(), report(loss=0.6932124495506287, learningRate=0.0004999999), NOW)["progress"]
    assert (fields["loss"], fields["learningRate"]) == (0.69321, 0.0005)


def test_an_unknown_length_is_no_percentage() -> None:
    assert reported_status(status(), report(totalSteps=0), NOW)["progress"]["percent"] == 0


def test_later_attempts_and_steps_are_news() -> None:
    assert is_news(report(), report(step=41))
    assert is_news(report(step=90), report(attempt=2, step=10))
    assert not is_news(report(), report(step=39))
