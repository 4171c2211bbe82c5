"""Reports of rank 0 as `status.progress`, `status.lastCheckpoint`, `status.data` and `status.bestMetric`,
and as the condition Preflight."""

import math
from datetime import datetime
from typing import Any

from finetune_api.reports import ProgressReport
from finetune_operator.plan.conditions import is_true
from finetune_operator.plan.preflight import with_preflight
from finetune_operator.plan.timestamps import rfc3339

Resource = dict[str, Any]
FIRST = "Preparing"
TRAINED = "Exporting"
"""The first stage that only comes after the last step, however many there were to be; evaluations come in between."""


def is_news(known: ProgressReport, report: ProgressReport) -> bool:
    """Whether a report overtakes a known one: of a later attempt, or not behind it in the same one."""
    return (report.attempt, report.step) >= (known.attempt, known.step)


def reported_status(status: Resource, report: ProgressReport, now: datetime) -> Resource:
    """The fields to write; empty when the report is of no use: finished job, other attempt, nothing new."""
    conditions = status.get("conditions")
    if is_true(conditions, "Succeeded") or is_true(conditions, "Failed"):
        return {}
    if report.attempt != status.get("attempt"):
        return {}
    # A gang that was told to stop saves a last checkpoint when its attempt has ended for us.
    over = _ended(status) or _behind(status, report)
    fields: Resource = {} if over else {"progress": progress(report, now, _stage(status, report))}
    if report.checkpoint and not _older_checkpoint(status, report, report.checkpoint.step):
        fields["lastCheckpoint"] = _checkpoint(status, report, now)
    if report.preflight and not _ended(status):
        told = with_preflight(conditions or [], report.preflight, rfc3339(now))
        fields |= {"conditions": told} if told is not conditions else {}
    if "progress" not in fields:
        return fields
    if report.data is not None:
        fields["data"] = report.data.wire()
    if report.best_metric:
        fields["bestMetric"] = report.best_metric
    return fields


def _stage(status: Resource, report: ProgressReport) -> str:
    """The last one that this operator knows, while the trainer is at one that it does not."""
    known = status.get("progress") or {}
    before = known.get("stage") if known.get("attempt") == report.attempt else None
    return report.stage or before or FIRST


def progress(report: ProgressReport, now: datetime, stage: str) -> Resource:
    """`status.progress`; what was not reported is null, so that nothing of an older report stays."""
    known, over = report.total_steps > 0, stage == TRAINED
    share = 100.0 if over else 100 * report.step / report.total_steps if known else 0.0
    return {
        "attempt": report.attempt,
        "stage": stage,
        "resumedFromStep": report.resumed_from_step,
        "step": report.step,
        "totalSteps": report.total_steps,
        "epoch": round(report.epoch, 4),
        "percent": round(min(share, 100.0), 1),
        "loss": _rounded(report.loss),
        "learningRate": _rounded(report.learning_rate),
        "tokensPerSecond": _rounded(report.tokens_per_second),
        "etaSeconds": 0 if over else report.eta_seconds,
        "stragglers": [one.wire() for one in report.stragglers] or None,
        "text": f"{report.step}/{report.total_steps}" if known else "",
        "percentText": f"{int(min(share, 100.0))}%" if known else "",
        "updatedAt": rfc3339(now),
    }


def _rounded(value: float | None) -> float | None:
    """Five significant digits: the status is for people, and `kubectl get` shows what is there."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.5g}")


def _checkpoint(status: Resource, report: ProgressReport, now: datetime) -> Resource:
    assert report.checkpoint is not None, "the caller looked"
    known = status.get("lastCheckpoint") or {}
    same = known.get("step") == report.checkpoint.step and known.get("uri") == report.checkpoint.uri
    return {
        "attempt": report.attempt,
        "step": report.checkpoint.step,
        "uri": report.checkpoint.uri,
        "verifiedAt": known["verifiedAt"] if same else rfc3339(now),
    }


def _ended(status: Resource) -> bool:
    records = status.get("attempts") or [{}]
    return bool(records[-1].get("endedAt"))


def _behind(status: Resource, report: ProgressReport) -> bool:
    """Within an attempt the step never goes back; a new attempt starts from its checkpoint."""
    return _goes_back(status.get("progress") or {}, report.attempt, report.step)


def _older_checkpoint(status: Resource, report: ProgressReport, step: int) -> bool:
    """Likewise; a new attempt may have walked back over a checkpoint that turned out corrupt."""
    return _goes_back(status.get("lastCheckpoint") or {}, report.attempt, step)


def _goes_back(known: Resource, attempt: int, step: int) -> bool:
    """Attempts are told apart by number: times that two clocks wrote say nothing of what came first."""
    return known.get("attempt") == attempt and step < int(known.get("step", 0))
