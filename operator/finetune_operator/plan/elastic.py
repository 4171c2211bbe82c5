"""Gangs that go on with fewer pods while nodes are missing.

A gang is still all or nothing: what changes is its size, from attempt to attempt. Checkpoints resume on any number of
processes, and the loss of a step depends on none, so the next attempt goes on where the last one was. Each attempt asks
for all nodes first; nodes that came back are used by the next one, which `growth` brings about.
"""

from finetune_api.engine_support import is_even
from finetune_operator.plan.basis import Basis
from finetune_operator.plan.causes import Cause
from finetune_operator.plan.endings import stop_gang
from finetune_operator.plan.observation import AttemptFacts
from finetune_operator.plan.reasons import Reason
from finetune_operator.plan.status_draft import StatusDraft


def next_size(draft: StatusDraft, base: Basis) -> int:
    """Pods of the attempt that is about to begin: all, unless the one before found no room for them."""
    resized = (draft.record or {}).get("cause") == Cause.RESIZED
    return int(draft.status["nodes"]) if resized else base.asked.nodes


def smaller_size(draft: StatusDraft, base: Basis, facts: AttemptFacts) -> int | None:
    """Pods that there is room for, once the others were waited for; None while there is hope, or too little room."""
    elastic = base.asked.elastic
    if elastic is None or draft.is_true("Running") or facts.waiting_since is None:
        return None
    placed = sum(pod.scheduled_at is not None for pod in facts.pods)
    if placed >= base.job.spec.distributed.nodes:
        return None
    wait = elastic.wait_seconds - (draft.now - facts.waiting_since).total_seconds()
    if wait > 0:
        draft.wake_after(wait)
        return None
    return next((size for size in range(placed, elastic.min_nodes - 1, -1) if fits(base, size)), None)


def resize(draft: StatusDraft, base: Basis, size: int) -> None:
    """Ends the attempt, which never ran as a whole, for a smaller one."""
    assert base.asked.elastic is not None
    nodes = base.job.spec.distributed.nodes
    why = (
        f"not all of {nodes} pods found a node within {base.asked.elastic.wait_seconds} s "
        f"(distributed.elastic.waitSeconds): the next attempt has {size}"
    )
    draft.end_attempt(Cause.RESIZED, why)
    draft.status["nodes"] = size
    draft.status["phase"] = "Restarting"
    draft.set("Running", False, Reason.RESIZED, why)
    draft.event(Reason.RESIZED, why)
    stop_gang(draft)


def fits(base: Basis, size: int) -> bool:
    """Whether a batch goes evenly over so many pods."""
    return is_even(base.job.spec.training, base.asked.of(size))
