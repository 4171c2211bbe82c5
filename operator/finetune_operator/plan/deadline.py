"""`activeDeadlineSeconds`: over all attempts, time spent suspended or in a queue not counted."""

from finetune_operator.plan.basis import Basis
from finetune_operator.plan.causes import Cause
from finetune_operator.plan.endings import fail
from finetune_operator.plan.reasons import Reason
from finetune_operator.plan.status_draft import StatusDraft


def deadline_passed(draft: StatusDraft, base: Basis) -> bool:
    """Whether it is over; if not, the draft wakes up when it will be."""
    limit = base.job.spec.active_deadline_seconds
    if limit is None or not draft.status.get("startTime"):
        return False
    wait = limit - draft.active_seconds()
    if wait > 0:
        draft.wake_after(wait)
    return wait <= 0


def fail_deadline(draft: StatusDraft, base: Basis) -> None:
    """Ends whatever runs, and the job."""
    message = f"longer than spec.activeDeadlineSeconds ({base.job.spec.active_deadline_seconds})"
    draft.event(Reason.DEADLINE_EXCEEDED, message)
    if draft.record and not draft.record.get("endedAt"):
        draft.end_attempt(Cause.DEADLINE_EXCEEDED, message)
    fail(draft, Reason.DEADLINE_EXCEEDED, message)
