"""What the devices of a job did with their time, from one observed state of the job to the next.

Goodput after Google's "ML Productivity Goodput": the share of the time of the devices that went into steps which
count. A gang holds its devices from the moment that all its pods run until it is seen to have ended; time in queues is
not in here, `finetune_job_queue_seconds` shows it.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Literal

from finetune_operator.plan.conditions import find_condition
from finetune_operator.plan.timestamps import parse_time

Status = dict[str, Any]
Use = Literal["training", "repeated", "overhead", "unreported"]
"""Steps done for the first time; steps done again after a restart; start-up, checkpoints between reports, evaluation,
export and the time from the last report to the end; attempts that never reported."""


def seconds_spent(before: Status, after: Status, furthest: int) -> Iterator[tuple[Use, float]]:
    """How the gang spent the time between two states of its job. `furthest`: the step that was reached before.

    Intervals of successive states follow each other without a gap, so over a job's life the sum is what its gangs
    held. An attempt that was not running before contributes nothing yet.
    """
    since = _accounted_until(before)
    number = before.get("attempt")
    if since is None or not number:
        return
    stopped = _stopped_at(after, number)
    if stopped is not None:
        use: Use = "overhead" if _progress(before, number) else "unreported"
        yield use, _seconds(since, stopped)
        return
    until = _accounted_until(after) if after.get("attempt") == number else None
    if until is None or until <= since:
        return
    yield from _shares(_progress(before, number), _progress(after, number), furthest, _seconds(since, until))


def _shares(old: Status, new: Status, furthest: int, seconds: float) -> Iterator[tuple[Use, float]]:
    first, last = int(old.get("step", 0)), int(new.get("step", 0))
    if not old or last <= first:
        yield "overhead", seconds
        return
    again = max(0, min(last, furthest) - first) / (last - first)
    if again > 0:
        yield "repeated", seconds * again
    if again < 1:
        yield "training", seconds * (1 - again)


def recovery_seconds(before: Status, after: Status) -> float | None:
    """From the end of a failed attempt until its successor trains; None when that did not happen just now."""
    number = int(after.get("attempt") or 0)
    trains, trained = _trains(_progress(after, number)), _trains(_progress(before, number))
    if number < 2 or trained or not trains:
        return None
    failed = _record(after, number - 1)
    ended = parse_time(failed.get("endedAt"))
    if ended is None or failed.get("cause") == "Suspended":
        return None
    again = parse_time(_progress(after, number).get("updatedAt"))
    return _seconds(ended, again) if again else None


def _accounted_until(status: Status) -> datetime | None:
    """Up to when the current attempt's time is accounted for; None while no gang runs."""
    number = status.get("attempt")
    running = find_condition(status.get("conditions"), "Running")
    if not number or not running or running["status"] != "True" or _ended_at(status, number):
        return None
    since = parse_time(running["lastTransitionTime"])
    reported = parse_time(_progress(status, number).get("updatedAt"))
    return max((moment for moment in (since, reported) if moment), default=None)


def _trains(progress: Status) -> bool:
    return bool(progress.get("stage", "Preparing") != "Preparing")


def _progress(status: Status, number: int) -> Status:
    """What rank 0 of that attempt last reported; empty when it has not."""
    progress = status.get("progress") or {}
    return progress if progress.get("attempt") == number else {}


def _record(status: Status, number: int) -> Status:
    return next((one for one in status.get("attempts") or () if one["number"] == number), {})


def _ended_at(status: Status, number: int) -> datetime | None:
    return parse_time(_record(status, number).get("endedAt"))


def _stopped_at(status: Status, number: int) -> datetime | None:
    """When the gang of that attempt stopped running as a whole: a rank may have failed before the attempt is over."""
    if (ended := _ended_at(status, number)) is not None:
        return ended
    running = find_condition(status.get("conditions"), "Running") or {}
    stopped = status.get("attempt") == number and running.get("status") == "False"
    return parse_time(running["lastTransitionTime"]) if stopped else None


def _seconds(start: datetime, end: datetime) -> float:
    return max((end - start).total_seconds(), 0.0)
