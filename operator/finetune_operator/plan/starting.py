"""Pods that do not run yet: what they wait for, and when that has been waited for long enough."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from finetune_operator.plan.causes import Cause
from finetune_operator.plan.evidence import LOOK_AFTER, Evidence
from finetune_operator.plan.node_words import program_missing
from finetune_operator.plan.observation import AttemptFacts, PodFacts
from finetune_operator.plan.pod_endings import Ending
from finetune_operator.plan.status_draft import StatusDraft
from finetune_operator.plan.timestamps import parse_time, still_to_wait

PATIENCE = timedelta(minutes=15)
"""How long pods may occupy nodes, and their GPUs, while a container of theirs cannot be started."""
LOOK_AGAIN_SECONDS = 60.0
IMAGE_WAITS = (
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
)
CREATE_ERRORS = ("CreateContainerError", "RunContainerError")
"""CRI-O finds out here, and the kubelet tries again, where containerd ends the pod with a StartError."""
POD_EVENTS = ("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox", "NetworkNotReady", "FailedMapVolume")
"""Troubles of the kubelet that show in events only: the pod says ContainerCreating."""
JOB_EVENTS = ("FailedCreate",)
"""The Job controller may not make the pods: quota, admission, Pod Security."""


@dataclass(frozen=True)
class Hindrance:
    """What keeps the gang from running."""

    cause: Cause
    reason: str
    """CamelCase, as Kubernetes has it: Unschedulable, ImagePullBackOff, FailedMount …"""
    message: str
    pod: PodFacts | None = None


def find_hindrance(facts: AttemptFacts, around: Evidence) -> Hindrance | None:
    """The first pod's that says what it waits for; None when nothing is known to be wrong."""
    for pod in facts.pods:
        if pod.waiting_reason:
            message = f"pod {pod.name}: {pod.waiting_message}"
            return Hindrance(_cause_of(pod), pod.waiting_reason, message, pod)
    for pod in facts.pods:
        if not pod.running and not pod.ended and (event := around.newest(POD_EVENTS, pod.name)):
            return Hindrance(Cause.CANNOT_START, event.reason, f"pod {pod.name}: {event.note}", pod)
    if not facts.pods and (event := around.newest(JOB_EVENTS)):
        return Hindrance(Cause.CANNOT_START, event.reason, event.note)
    return None


def start_overdue(draft: StatusDraft, facts: AttemptFacts, limit: int | None) -> Ending | None:
    """The end of an attempt whose pods do not get to run; if it is not there yet, the draft wakes up when it is."""
    hindrance = find_hindrance(facts, draft.world.evidence)
    if hindrance is None and facts.waiting_since:
        # Events wake nobody: look whether there are any, at first soon.
        waited = (draft.now - facts.waiting_since).total_seconds()
        draft.wake_after(LOOK_AGAIN_SECONDS if waited > LOOK_AFTER.seconds else LOOK_AFTER.seconds - waited + 1)
    if limit is not None and facts.waiting_since:
        wait = (facts.waiting_since + timedelta(seconds=limit) - draft.now).total_seconds()
        if wait <= 0:
            return _given_up(hindrance, f"not all pods ran within spec.startDeadlineSeconds ({limit})")
        draft.wake_after(wait)
    since = _hindered_since(draft, hindrance)
    if hindrance and hindrance.pod and since:
        wait = still_to_wait(since, PATIENCE.total_seconds(), draft.now)
        if wait <= 0:
            node = hindrance.pod.node
            return _given_up(hindrance, f"not started within {PATIENCE.seconds // 60} minutes on node {node}")
        draft.wake_after(wait)
    return None


def _hindered_since(draft: StatusDraft, hindrance: Hindrance | None) -> datetime | None:
    """Since when a pod cannot start on its node: the pull of a large image takes long, and may be cut short once."""
    record, stuck = draft.record, hindrance.pod if hindrance else None
    if hindrance is None or stuck is None or stuck.scheduled_at is None or hindrance.cause == Cause.UNSCHEDULABLE:
        if record is not None:
            record.pop("hinderedSince", None)
        return None
    return parse_time(record.setdefault("hinderedSince", draft.now_text)) if record else stuck.scheduled_at


def _given_up(hindrance: Hindrance | None, why: str) -> Ending:
    if hindrance is None:
        return Ending(Cause.START_DEADLINE, why)
    return Ending(hindrance.cause, f"{why}: {hindrance.reason}: {hindrance.message}", hindrance.pod)


def _cause_of(pod: PodFacts) -> Cause:
    if pod.waiting_reason in IMAGE_WAITS:
        return Cause.IMAGE_PULL
    if pod.waiting_reason in CREATE_ERRORS and program_missing(pod.waiting_message):
        return Cause.INVALID_IMAGE
    return Cause.CANNOT_START if pod.scheduled_at else Cause.UNSCHEDULABLE
