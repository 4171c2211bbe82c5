"""What rank 0 says of its attempt, as the job's status shows it."""

import pytest

from finetune_operator.plan.lifecycle import plan_job
from finetune_operator.plan.world import Plan
from plan.builders import follow, indexed_job, job, message, pod, snapshot_of, world


def reported(attempt: int = 1, guess: int | None = 130, **progress: object) -> Plan:
    """The step of a running first attempt, announced from a checkpoint, after a report."""
    item = job()
    item = follow(item, plan_job(world(item)))
    if guess is not None:
        item["status"]["attempts"][0]["resumedFromStep"] = guess
    item["status"]["progress"] = {"attempt": attempt, "stage": "Training", **progress}
    return plan_job(world(item, [indexed_job()], [pod(0), pod(1)], 10, snapshot=snapshot_of(item)))


def resumed_from(plan: Plan) -> object:
    return plan.status["attempts"][0].get("resumedFromStep")


def test_the_step_that_was_restored_is_the_one_that_rank_0_reports() -> None:
    assert resumed_from(reported(resumedFromStep=120)) == 120
    assert resumed_from(reported(guess=None, resumedFromStep=120)) == 120


def test_a_start_from_nothing_is_shown_as_one() -> None:
    assert resumed_from(reported(resumedFromStep=None)) is None


def test_ranks_that_hold_the_others_up_are_named() -> None:
    slow = [{"rank": 3, "slowdown": 2.1}, {"rank": 5, "slowdown": 1.6}]
    assert message(reported(stragglers=slow), "Running") == "2 of 2 pods run; slower than the others: rank 3, 5"
    assert message(reported(attempt=2, stragglers=slow), "Running") == "2 of 2 pods run"


@pytest.mark.parametrize("report", [{"stage": "Preparing"}, {"attempt": 2, "resumedFromStep": 7}])
def test_until_rank_0_knows_the_newest_known_checkpoint_stands(report: dict) -> None:
    assert resumed_from(reported(**report)) == 130


@pytest.mark.parametrize(
    ("report", "phase"),
    [
        ({"stage": "Preparing"}, "Running"),
        ({"stage": "Training"}, "Running"),
        ({"stage": "Evaluating"}, "Evaluating"),
        ({"stage": "Exporting"}, "Evaluating"),
        ({"stage": "Evaluating", "attempt": 2}, "Running"),
    ],
)
def test_the_phase_follows_the_stage(report: dict, phase: str) -> None:
    assert reported(**report).status["phase"] == phase
