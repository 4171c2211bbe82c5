"""The condition Preflight, from the start of an attempt to what pod 0 said."""

import json
from dataclasses import replace
from typing import Any

import pytest

from finetune_api.reports import ProgressReport, ReportedPreflight
from finetune_operator.plan.lifecycle import plan_job
from finetune_operator.plan.preflight import newer
from finetune_operator.plan.progress import reported_status
from finetune_operator.plan.settings import Settings
from plan.builders import NOW, condition, failed_pod, follow, indexed_job, job, message, pod, snapshot_of, world

Resource = dict[str, Any]
PASSED = {"status": "True", "reason": "Passed", "message": "all there"}
WRONG = {"status": "False", "reason": "DataError", "message": "dataset.train.source: d is empty"}


def started() -> Resource:
    item = job()
    return follow(item, plan_job(world(item)))


def report(step: int = 0, attempt: int = 1, **found: Any) -> ProgressReport:
    told = ReportedPreflight(**found) if found else None
    return ProgressReport(attempt=attempt, step=step, total_steps=100, preflight=told)


def shown(item: Resource, told: ProgressReport) -> tuple[str, str, str] | None:
    """Status, reason and message of the condition that a report writes; None: it writes no conditions."""
    written = reported_status(item["status"], told, NOW)
    found = [one for one in written.get("conditions", ()) if one["type"] == "Preflight"]
    return (found[0]["status"], found[0]["reason"], found[0]["message"]) if found else None


def test_at_the_start_nobody_knows() -> None:
    item = job()
    assert condition(plan_job(world(item)), "Preflight") == ("Unknown", "Pending")
    deaf = replace(world(item), settings=Settings("trainer:test"))
    assert condition(plan_job(deaf), "Preflight") == ("Unknown", "NotReported")


@pytest.mark.parametrize(
    "found",
    [
        PASSED,
        {"status": "True", "reason": "MemoryShort", "message": "needs 9 GiB"},
        {"status": "Unknown", "reason": "StorageUnavailable", "message": "s3://b does not answer"},
    ],
)
def test_a_report_says_what_was_found(found: Resource) -> None:
    item = started()
    assert shown(item, report(**found)) == (found["status"], found["reason"], found["message"])
    others = reported_status(item["status"], report(**found), NOW)["conditions"]
    assert [one["type"] for one in others] == [one["type"] for one in item["status"]["conditions"]]


def test_what_is_known_is_not_written_again_and_other_attempts_say_nothing() -> None:
    item = started()
    written = reported_status(item["status"], report(**PASSED), NOW)
    item["status"] |= written
    assert shown(item, report(**PASSED)) is None
    assert shown(started(), report(attempt=2, **PASSED)) is None
    assert shown(started(), report(3)) is None


def test_a_report_that_comes_late_still_says_it() -> None:
    item = started()
    item["status"]["progress"] = {"step": 50, "updatedAt": "2026-11-22T10:00:00Z"}
    item["status"]["attempts"][0]["startedAt"] = "2026-11-22T09:00:00Z"
    assert shown(item, report(**PASSED)) == ("True", "Passed", "all there")


def test_of_two_reports_the_preflight_of_either_is_kept() -> None:
    first, later = report(**PASSED), report(10)
    assert newer(first, later, is_news=True) == later.model_copy(update={"preflight": first.preflight})
    assert newer(later, first, is_news=False) == later.model_copy(update={"preflight": first.preflight})
    assert newer(first, report(10, attempt=2), is_news=True).preflight is None


def test_a_pod_that_ends_for_what_it_found_says_it_in_its_last_words() -> None:
    item = started()
    words = {"outcome": "DataError", "message": WRONG["message"], "rank": 0, "preflight": WRONG}
    ended = [failed_pod(0, 3, json.dumps(words)), pod(1)]
    plan = plan_job(world(item, [indexed_job(Failed="x: y")], ended, 10, snapshot=snapshot_of(item)))
    assert plan.status["phase"] == "Failed"
    assert condition(plan, "Preflight") == ("False", "DataError")
    assert message(plan, "Preflight") == WRONG["message"]
