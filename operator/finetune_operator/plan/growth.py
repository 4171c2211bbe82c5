"""Smaller gangs that grow again: pods that only hold room show that there are nodes for a larger one.

Only the scheduler knows whether a pod finds a node, so it is asked, by a Job of as many pods as are missing: they are
placed as the gang's are, and do nothing. Once they run, the gang saves a checkpoint and makes way for a larger one,
which takes their nodes. So a gang that trains is never ended for room that may not be there, and an autoscaler sees
what is missing.
"""

from datetime import datetime
from typing import Any

from finetune_operator.plan.attempt import gang_of, owned_metadata
from finetune_operator.plan.basis import Basis
from finetune_operator.plan.causes import Cause
from finetune_operator.plan.elastic import fits
from finetune_operator.plan.endings import release_room, stop_gang
from finetune_operator.plan.observation import NO_ATTEMPT, AttemptFacts
from finetune_operator.plan.pod_shape import CONTAINER
from finetune_operator.plan.pod_template import pod_template
from finetune_operator.plan.reasons import Reason
from finetune_operator.plan.settings import Settings
from finetune_operator.plan.status_draft import StatusDraft
from finetune_operator.plan.timestamps import parse_time, still_to_wait
from finetune_operator.plan.world import Create


def larger_size(draft: StatusDraft, base: Basis) -> int | None:
    """Pods that there is room for by now; None while the gang is whole, or none was found. Asks for room in time."""
    elastic, missing = base.asked.elastic, base.asked.nodes - base.job.spec.distributed.nodes
    if elastic is None or elastic.grow_seconds is None or missing <= 0 or not draft.is_true("Running"):
        return None
    room = draft.world.room
    if room.job is None:
        _ask_for_room(draft, base, elastic.grow_seconds, missing)
        return None
    if room.failed:
        release_room(draft, f"the pods that waited for nodes ended: {room.failure}")
    if room.failed or room.deleting:
        return None
    return _room_found(draft, base, room, missing)


def grow(draft: StatusDraft, base: Basis, size: int) -> None:
    """Ends the attempt, which saves a checkpoint, for a larger one. The room is held until that begins."""
    why = f"{size - base.job.spec.distributed.nodes} more pods found nodes: the next attempt has {size}"
    draft.end_attempt(Cause.RESIZED, why)
    draft.status["nodes"] = size
    draft.status["phase"] = "Restarting"
    draft.set("Running", False, Reason.RESIZED, why)
    draft.set("Growing", True, Reason.ROOM_FOUND, why)
    draft.event(Reason.ROOM_FOUND, why)
    stop_gang(draft)


def _ask_for_room(draft: StatusDraft, base: Basis, grow_seconds: int, missing: int) -> None:
    wait = still_to_wait(_small_since(draft), grow_seconds, draft.now)
    if wait > 0:
        draft.wake_after(wait)
        return
    draft.writes.append(Create(room_job(base, draft.attempt, draft.world.settings)))
    draft.set("Growing", True, Reason.AWAITING_ROOM, f"{missing} pods that would make the gang whole wait for nodes")


def _small_since(draft: StatusDraft) -> datetime | None:
    """When the gang began to run, or room was last given up."""
    running, growing = draft.condition("Running"), draft.condition("Growing")
    times = [running["lastTransitionTime"], growing.get("lastTransitionTime") or ""]
    return parse_time(max(times))


def _room_found(draft: StatusDraft, base: Basis, room: AttemptFacts, missing: int) -> int | None:
    assert base.asked.elastic is not None
    nodes, placed = base.job.spec.distributed.nodes, [pod for pod in room.pods if pod.running]
    if len(placed) >= missing:
        return base.asked.nodes
    since = min((pod.scheduled_at for pod in placed if pod.scheduled_at), default=None)
    if since is None:
        return None
    wait = still_to_wait(since, base.asked.elastic.wait_seconds, draft.now)
    if wait > 0:
        draft.wake_after(wait)
        return None
    size = next((size for size in range(nodes + len(placed), nodes, -1) if fits(base, size)), None)
    if size is None:
        release_room(draft, f"{len(placed)} of {missing} missing pods found nodes, too few for a larger gang")
    return size


def room_job(base: Basis, number: int, settings: Settings) -> dict[str, Any]:
    """As many idle pods as the attempt misses, placed as its own: same image, resources, volumes and node selectors.

    Nothing is mounted, and no environment set: they need no secrets. Sidecars and init containers are left out.
    """
    job = base.job
    missing = base.asked.nodes - job.spec.distributed.nodes
    template = pod_template(job, gang_of(job, number), NO_ATTEMPT, settings)
    trainer = next(one for one in template["spec"]["containers"] if one["name"] == CONTAINER)
    idle = {field: trainer[field] for field in ("name", "image", "resources", "securityContext") if field in trainer}
    template["spec"] |= {"containers": [idle | {"command": ["sleep", "infinity"]}], "terminationGracePeriodSeconds": 1}
    template["spec"].pop("initContainers", None)
    spec = {"completions": missing, "parallelism": missing, "backoffLimit": 0, "template": template}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": owned_metadata(job, NO_ATTEMPT), "spec": spec}
