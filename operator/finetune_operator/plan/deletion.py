"""A FineTuneJob that is being deleted and is still there, held by somebody's finalizer: its gang must not train on.

Without finalizers it is gone at once, and its children go by their owner references.
"""

from finetune_operator.plan.causes import Cause
from finetune_operator.plan.endings import delete_stuck_pods, stop_active, stop_gang
from finetune_operator.plan.status_draft import StatusDraft
from finetune_operator.plan.world import Plan, Resource, World

ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"
"""The garbage collector's own finalizers: with the first one the children are to stay."""


def is_held(job: Resource) -> bool:
    """Whether somebody else than the garbage collector keeps it, which is to take the children along."""
    finalizers = set(job["metadata"].get("finalizers") or ())
    return bool(finalizers - {FOREGROUND}) and ORPHAN not in finalizers


def wind_up(world: World) -> Plan:
    """Stops what runs, as a suspension does: the pods save a checkpoint. Nothing is started any more."""
    draft = StatusDraft(world)
    if draft.finished:
        stop_active(draft)
    else:
        _stop(draft)
    # The children may have been orphaned meanwhile: the live ones tell whose they are.
    draft.unseen = bool(draft.writes)
    return draft.plan()


def _stop(draft: StatusDraft) -> None:
    holders = ", ".join(draft.world.job["metadata"].get("finalizers") or ())
    why = f"the FineTuneJob is being deleted; finalizers hold it: {holders}"
    if draft.record and not draft.record.get("endedAt"):
        draft.end_attempt(Cause.JOB_DELETED, why)
    draft.set("Running", False, "Deleting", why)
    stop_gang(draft)
    delete_stuck_pods(draft)
