"""A gang whose Job a queue holds: made suspended, let go when there is room, suspended again when it must yield."""

from finetune_operator.plan.basis import Basis
from finetune_operator.plan.observation import AttemptFacts
from finetune_operator.plan.reasons import Reason
from finetune_operator.plan.scheduler_choice import local_queue
from finetune_operator.plan.status_draft import StatusDraft
from finetune_operator.plan.world import Resource
from finetune_operator.schedulers.registry import SCHEDULERS

NOT_QUEUED = "NotQueued"


def show_admission(draft: StatusDraft, base: Basis, job: Resource | None) -> bool:
    """Keeps the condition Admitted; True when nothing holds the pods back. `job` is None before the Job is made.

    The Job itself tells whether it is held: Kueue also takes Jobs that name no queue, where it has a default for them.
    """
    expected = SCHEDULERS[base.job.scheduler].holds_jobs
    if is_held(job) if job is not None else expected:
        gone = expected and _queue_is_gone(draft, base)
        message = _gone(base) if gone else _waits_for(base, expected=expected)
        if gone and draft.condition("Admitted").get("reason") != Reason.QUEUE_NOT_FOUND:
            draft.event(Reason.QUEUE_NOT_FOUND, message)
        draft.set("Admitted", False, Reason.QUEUE_NOT_FOUND if gone else Reason.QUEUED, message)
        draft.set("Running", False, Reason.QUEUED, message)
        draft.status["phase"] = "Queued"
        return False
    known = draft.condition("Admitted")
    if not expected and (job is None or known.get("status") != "False"):
        draft.not_active(draft.queued_seconds())
        if job is None or known.get("reason") != Reason.ADMITTED:
            draft.set("Admitted", True, NOT_QUEUED, "no queue holds the Job")
        return True
    where = f"queue {base.job.queue!r}" if expected else "the queue that had taken the Job"
    if not draft.is_true("Admitted"):
        draft.not_active(draft.queued_seconds())
        draft.event(Reason.ADMITTED, f"{base.job.scheduler if expected else 'its holder'} let the gang go: {where}")
    draft.set("Admitted", True, Reason.ADMITTED, where)
    return True


def _queue_is_gone(draft: StatusDraft, base: Basis) -> bool:
    queue = local_queue(base.job.scheduler, base.job.queue, base.job.served)
    return queue in draft.world.around.absent


def _gone(base: Basis) -> str:
    return f"there is no LocalQueue {base.job.queue!r} in namespace {base.job.namespace} any more; create it again"


def _waits_for(base: Basis, *, expected: bool) -> str:
    if expected:
        room = f"the queue {base.job.queue!r} has room for {base.job.spec.distributed.nodes} pods"
        return f"{base.job.scheduler} holds the Job until {room}"
    return (
        "the Job was suspended by someone else, as Kueue does where a namespace has a LocalQueue named default: "
        "its pods are made when it is let go"
    )


def withdrawn(draft: StatusDraft, facts: AttemptFacts) -> bool:
    """A gang that had been let go is held again: its pods save a checkpoint and end; the next attempt queues anew."""
    admitted = draft.condition("Admitted").get("reason")
    # Without a queue of its own it may have been held from the start, which no queue takes back.
    let_go = admitted == Reason.ADMITTED or (admitted == NOT_QUEUED and _has_begun(draft, facts))
    return facts.job is not None and is_held(facts.job) and let_go


def _has_begun(draft: StatusDraft, facts: AttemptFacts) -> bool:
    return bool(facts.pods or (draft.record or {}).get("startedAt"))


def is_held(job: Resource) -> bool:
    """Suspended, by whoever queues Jobs: we never suspend one."""
    return bool((job.get("spec") or {}).get("suspend"))
