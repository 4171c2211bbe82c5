"""The condition Preflight: what pod 0 of the current attempt found before it loaded PyTorch and met the others.

The operator has no access to volumes, buckets or credentials, so pod 0 looks, at first: a report says that all is well,
the last words of a pod that ended for it say what is wrong. While the first gang of a job waits for its place, a pod
that only looks says in its last words what it found; see `preflight_pod`.
"""

from datetime import datetime, timedelta

from finetune_api.reports import ProgressReport, ReportedPreflight
from finetune_operator.plan.basis import Basis
from finetune_operator.plan.conditions import Condition, find_condition, with_condition
from finetune_operator.plan.observation import AttemptFacts
from finetune_operator.plan.preflight_pod import preflight_job
from finetune_operator.plan.reasons import Reason
from finetune_operator.plan.starting import find_hindrance
from finetune_operator.plan.status_draft import StatusDraft
from finetune_operator.plan.volumes import claims_read
from finetune_operator.plan.world import Create, Delete

PREFLIGHT = "Preflight"
PENDING, NOT_REPORTED = "Pending", "NotReported"
PATIENCE = timedelta(seconds=5)
"""How long a gang may wait for its place before another pod looks instead of pod 0."""
LOOK_AGAIN_SECONDS = 30.0
STATUSES = {"True": True, "False": False, "Unknown": None}


def await_preflight(draft: StatusDraft) -> None:
    """At the start of an attempt."""
    if draft.world.settings.progress_url is None:
        draft.set(PREFLIGHT, None, NOT_REPORTED, "the operator has no --progress-url; see the log of pod 0")
    else:
        draft.set(PREFLIGHT, None, PENDING, f"pod 0 of attempt {draft.attempt} has not reported yet")


def note_failed_preflight(draft: StatusDraft, facts: AttemptFacts) -> None:
    """Where that is what ended the attempt."""
    for pod in facts.pods:
        if pod.rank == 0 and pod.message and (found := pod.message.preflight):
            draft.set(PREFLIGHT, STATUSES[found.status], found.reason, found.message)


def look_ahead(draft: StatusDraft, base: Basis, waits_since: datetime | None) -> None:
    """While the gang waits for its place, until one has had it: later gangs read what that one read."""
    looking = draft.world.preflight
    if _was_read(draft) or looking.stopping or draft.condition(PREFLIGHT).get("reason") not in (PENDING, NOT_REPORTED):
        return
    if any(pod.ended or pod.exit_code is not None for pod in looking.pods) or looking.failed:
        _note_look(draft, looking)
    elif looking.pods and (stuck := find_hindrance(looking, draft.world.evidence)):
        draft.set(PREFLIGHT, None, PENDING, f"the pod that looks while the gang waits: {stuck.reason}: {stuck.message}")
    elif looking.job is None and waits_since is not None:
        wait = (waits_since + PATIENCE - draft.now).total_seconds()
        if wait > 0:
            draft.wake_after(wait)
        elif unbound := [name for name in claims_read(base.job) if name not in draft.world.bound_claims]:
            _await_volume(draft, unbound[0])
        else:
            body = preflight_job(base.job, draft.attempt, draft.world.settings)
            draft.writes.append(Create(body, dispensable=True))


def _was_read(draft: StatusDraft) -> bool:
    """By pod 0 of an earlier gang; where none of them reports, the first gang counts as one that did."""
    reported = (draft.world.job.get("status") or {}).get("progress") is not None
    return reported or (draft.attempt > 1 and draft.world.settings.progress_url is None)


def _note_look(draft: StatusDraft, looking: AttemptFacts) -> None:
    told = next((pod.message.preflight for pod in looking.pods if pod.message), None)
    if told is None:
        words = next((pod.log_tail for pod in looking.pods if pod.log_tail), looking.failure)
        draft.set(PREFLIGHT, None, "NotPossible", f"the pod that looks while the gang waits has failed: {words}")
        return
    draft.set(PREFLIGHT, STATUSES[told.status], told.reason, told.message)
    if told.status == "False":
        draft.event(Reason.PREFLIGHT_FAILED, f"{told.message}; the job still waits, and will fail for this if it stays")


def _await_volume(draft: StatusDraft, claim: str) -> None:
    """A pod of ours must not be the first to use it: the volume would be made where that pod is, not where GPUs are."""
    draft.set(PREFLIGHT, None, PENDING, f"the PersistentVolumeClaim {claim!r} has no volume yet")
    draft.wake_after(LOOK_AGAIN_SECONDS)


def end_look(draft: StatusDraft) -> None:
    """The gang has ended, or has its place: pod 0 looks by itself, at volumes that perhaps one node alone may mount."""
    job = draft.world.preflight.job
    if job is not None and not any(pod.ended for pod in draft.world.preflight.pods):
        metadata = job["metadata"]
        if not metadata.get("deletionTimestamp"):
            draft.write_once(Delete("Job", metadata["namespace"], metadata["name"], metadata["uid"]))


def with_preflight(conditions: list[Condition], found: ReportedPreflight, now: str) -> list[Condition]:
    """The conditions after a report; the same list when it says nothing new, or nobody waits for it."""
    before = find_condition(conditions, PREFLIGHT)
    if before is None or all(before.get(name) == value for name, value in found.wire().items()):
        return conditions
    return with_condition(
        conditions,
        PREFLIGHT,
        STATUSES[found.status],
        found.reason,
        found.message,
        now=now,
        generation=int(before.get("observedGeneration") or 0),
    )


def newer(known: ProgressReport, report: ProgressReport, *, is_news: bool) -> ProgressReport:
    """Of two reports the one to write, with what either says of the preflight, which is told once."""
    chosen, other = (report, known) if is_news else (known, report)
    if chosen.preflight or not other.preflight or chosen.attempt != other.attempt:
        return chosen
    return chosen.model_copy(update={"preflight": other.preflight})
