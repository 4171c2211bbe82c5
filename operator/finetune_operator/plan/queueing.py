"""A gang whose Job a queue holds: made suspended, let go when there is room, suspended again when it must yield."""

from finetune_operator.plan.basis import Basis
from finetune_operator.plan.observation import AttemptFacts
from finetune_operator.plan.reasons import Reason
from finetune_operator.plan.status_draft import StatusDraft
from finetune_operator.plan.world import Resource
from finetune_operator.schedulers.registry import SCHEDULERS


def show_admission(draft: StatusDraft, base: Basis, job: Resource | None) -> bool:
    """Keeps the condition Admitted; True when nothing holds the pods back. `job` is None before the Job is made."""
    name, queue = base.job.scheduler, base.job.queue
    if not SCHEDULERS[name].holds_jobs:
        draft.set("Admitted", True, "NotQueued", "no queue holds the Job")
        return True
    if job is None or is_held(job):
        message = f"{name} holds the Job until the queue {queue!r} has room for {base.job.spec.distributed.nodes} pods"
        draft.set("Admitted", False, Reason.QUEUED, message)
        draft.set("Running", False, Reason.QUEUED, message)
        draft.status["phase"] = "Queued"
        return False
    if not draft.is_true("Admitted"):
        draft.not_active(draft.queued_seconds())
        draft.event(Reason.ADMITTED, f"{name} let the gang go: queue {queue!r}")
    draft.set("Admitted", True, Reason.ADMITTED, f"queue {queue!r}")
    return True


def withdrawn(draft: StatusDraft, facts: AttemptFacts) -> bool:
    """A gang that had been let go is held again: its pods save a checkpoint and end; the next attempt queues anew."""
    admitted = draft.condition("Admitted")
    return facts.job is not None and is_held(facts.job) and admitted.get("reason") == Reason.ADMITTED


def is_held(job: Resource) -> bool:
    """Suspended, by whoever queues Jobs: we never suspend one."""
    return bool((job.get("spec") or {}).get("suspend"))
