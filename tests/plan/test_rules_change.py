"""An operator whose rules are not those by which a job was let in: an upgrade ends nothing that runs."""

from typing import Any

import pytest

from plan.builders import condition, created, deleted, done_pod, failed_pod, follow, indexed_job, message, reasons
from plan.gangs import GANG, running, started, step

UNREADABLE = {"training": {"learningRate": "high"}}
NOT_TOGETHER = {"training": {"batchSize": 7}, "evaluation": {"gate": [{"metric": "bleu", "operator": ">", "value": 1}]}}
UNKNOWN = {"training": {"sharpness": 0.1}}
COMPLETE = [indexed_job(Complete="CompletionsReached: x")]


def let_in(item: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """As if it had been started so."""
    item["spec"] |= changes
    return item


@pytest.mark.parametrize("changes", [NOT_TOGETHER, UNKNOWN, UNREADABLE], ids=["together", "unknown", "unreadable"])
def test_a_gang_that_runs_goes_on(changes: dict[str, Any]) -> None:
    item = let_in(running(), changes)
    plan = step(item, [indexed_job()], GANG)
    assert (plan.status["phase"], deleted(plan)) == ("Running", [])
    assert condition(plan, "Validated") == ("True", "RulesChanged")
    assert "spec.training." in message(plan, "Validated")
    assert reasons(plan) == ["RulesChanged"]
    assert reasons(step(follow(item, plan), [indexed_job()], GANG, 20)) == []


@pytest.mark.parametrize("changes", [{"training": {"batchSize": 7}}, UNKNOWN], ids=["together", "unknown"])
def test_its_result_counts(changes: dict[str, Any]) -> None:
    plan = step(let_in(running(), changes), COMPLETE, [done_pod(0), done_pod(1)])
    assert condition(plan, "Succeeded") == ("True", "Succeeded")


def test_no_attempt_follows() -> None:
    item = let_in(running(failurePolicy={"backoffSeconds": 0}), NOT_TOGETHER)
    crashed = [failed_pod(0, 1, "x"), failed_pod(1, 1, "y")]
    ended = follow(item, step(item, [indexed_job(Failed="BackoffLimitExceeded: x")], crashed))
    assert ended["status"]["phase"] == "Restarting"
    plan = step(ended, after=60)
    assert condition(plan, "Failed") == ("True", "InvalidSpec")
    assert "spec.training.batchSize (7)" in message(plan, "Failed")
    assert (plan.status["attempts"][-1]["cause"], created(plan)) == ("Crash", [])


def test_an_attempt_whose_job_was_not_made_yet_is_not_made() -> None:
    plan = step(let_in(started(), NOT_TOGETHER))
    assert (plan.status["phase"], created(plan), plan.unseen) == ("Failed", [], True)
