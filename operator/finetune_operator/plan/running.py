"""An attempt whose gang exists: watch it start, run and end."""

from finetune_api.reports import TrainingResult
from finetune_operator.plan.attempt import attempt_objects, scheduling_objects
from finetune_operator.plan.basis import Basis
from finetune_operator.plan.causes import Cause
from finetune_operator.plan.deadline import deadline_passed, fail_deadline
from finetune_operator.plan.elastic import resize, smaller_size
from finetune_operator.plan.endings import (
    delete_stuck_pods,
    describe_root,
    is_settled,
    release_room,
    restart_or_fail,
    stop_gang,
)
from finetune_operator.plan.growth import grow, larger_size
from finetune_operator.plan.isolation import keep_isolation
from finetune_operator.plan.named_objects import named
from finetune_operator.plan.names import attempt_name
from finetune_operator.plan.observation import AttemptFacts, misunderstood
from finetune_operator.plan.pod_endings import WITHDRAWN, Ending
from finetune_operator.plan.preflight import end_look, look_ahead, note_failed_preflight
from finetune_operator.plan.publication import evaluate
from finetune_operator.plan.queueing import show_admission, withdrawn
from finetune_operator.plan.reasons import Reason
from finetune_operator.plan.root_cause import find_ending
from finetune_operator.plan.stacks import note_stacks
from finetune_operator.plan.starting import find_hindrance, start_overdue
from finetune_operator.plan.status_draft import StatusDraft
from finetune_operator.plan.timestamps import parse_time, still_to_wait
from finetune_operator.plan.world import Create

SIDECAR_SECONDS = 60.0
"""For which other containers of a pod may go on when its trainer is done, to send what is left of logs or metrics."""
UNSEEN_SECONDS = 30.0
"""After which pods whose end nobody shows count as gone."""
NEVER_SEEN_SECONDS = 10.0
"""After which pods count as gone that nobody has shown at all."""


def attend(draft: StatusDraft, base: Basis) -> None:
    """The next step of the current attempt. A result that is there counts, whatever else was asked for."""
    facts = draft.world.facts(draft.attempt)
    _note_resumption(draft)
    if _awaits_pods(draft, facts):
        return
    if facts.complete or _outlived(draft, base, facts) or _fails_with_its_result(draft, base, facts):
        _completed(draft, base, facts)
    elif base.job.spec.suspend:
        _suspend(draft)
    elif deadline_passed(draft, base):
        fail_deadline(draft, base)
    elif ending := _known_ending(draft, facts):
        _ended(draft, base, facts, ending)
    elif overdue := _start_overdue(draft, base, facts):
        _ended(draft, base, facts, overdue)
    elif (size := smaller_size(draft, base, facts)) is not None:
        resize(draft, base, size)
    elif (size := _larger_size(draft, base)) is not None:
        grow(draft, base, size)
    else:
        _show_progress(draft, base, facts)
    if draft.ended_at and not facts.end_shown:
        draft.unseen = True


def _trained(draft: StatusDraft) -> bool:
    return draft.reported.get("stage") in ("Evaluating", "Exporting")


def _larger_size(draft: StatusDraft, base: Basis) -> int | None:
    """Of a gang that trains: before it gets there its start would be lost, and afterwards more pods do not help."""
    tells = draft.world.settings.progress_url is not None
    trains = draft.reported.get("stage") == "Training"
    return larger_size(draft, base) if trains or not tells else None


def _note_resumption(draft: StatusDraft) -> None:
    """Before the start it was the newest checkpoint that we knew of; rank 0 may have had to go further back."""
    record, progress = draft.record, draft.reported
    if record is None or progress.get("stage", "Preparing") == "Preparing":
        return
    step = progress.get("resumedFromStep")
    if step is None:
        record.pop("resumedFromStep", None)
    else:
        record["resumedFromStep"] = step


def _awaits_pods(draft: StatusDraft, facts: AttemptFacts) -> bool:
    """Whether the pods' own end is still to be seen: after a cut their watch may come back later than the Job's."""
    if not (facts.pods_behind or _never_seen(draft, facts)):
        return False
    patience = UNSEEN_SECONDS if facts.pods_behind else NEVER_SEEN_SECONDS
    wait = still_to_wait(facts.over_since, patience, draft.now)
    if wait > 0:
        draft.wake_after(wait)
    return wait > 0


def _never_seen(draft: StatusDraft, facts: AttemptFacts) -> bool:
    """The Job has failed before any pod of it was shown: they may have come and gone while their watch was cut."""
    known = draft.is_true("Running") or (draft.record or {}).get("cause")
    return facts.failing and not facts.pods and not known


def _outlived(draft: StatusDraft, base: Basis, facts: AttemptFacts) -> bool:
    """Whether all trainers have ended well, and what else runs in their pods will not end by itself.

    A sidecar that is an ordinary container keeps its pod, and so the Job, from coming to an end.
    """
    since = facts.done_since(base.job.spec.distributed.nodes)
    if since is None:
        return False
    wait = still_to_wait(since, SIDECAR_SECONDS, draft.now)
    if wait > 0:
        draft.wake_after(wait)
    return wait <= 0


def _fails_with_its_result(draft: StatusDraft, base: Basis, facts: AttemptFacts) -> bool:
    """Whether rank 0, the last to have work, is done, and what goes on beside it ends otherwise, or is to end.

    A sidecar that failed hours ago fails its pod when the trainer ends; a rank may crash as it lets go of its GPU.
    """
    if result_of(facts) is None:
        return False
    return bool(base.job.spec.suspend or deadline_passed(draft, base) or _known_ending(draft, facts))


def _known_ending(draft: StatusDraft, facts: AttemptFacts) -> Ending | None:
    """What the pods show now, else what they showed before they went."""
    record = draft.record or {}
    if withdrawn(draft, facts):
        return Ending(Cause.PREEMPTED, f"{WITHDRAWN}: the queue took the quota back: its scheduler suspended the Job")
    if (ending := find_ending(facts, draft.world.evidence)) is not None:
        return ending
    if record.get("cause"):
        return Ending(Cause(record["cause"]), record["reason"])
    return None


def _ended(draft: StatusDraft, base: Basis, facts: AttemptFacts, ending: Ending) -> None:
    describe_root(draft, ending)
    note_failed_preflight(draft, facts)
    note_stacks(draft, facts)
    _mark_started(draft, facts)
    delete_stuck_pods(draft)
    if is_settled(facts, ending, draft):
        restart_or_fail(draft, base.job.failure_policy)
    else:
        draft.set("Running", False, Reason.ATTEMPT_FAILED, (draft.record or {}).get("reason", ""))


def _start_overdue(draft: StatusDraft, base: Basis, facts: AttemptFacts) -> Ending | None:
    spec = base.job.spec
    if draft.is_true("Running") or facts.running(spec.distributed.nodes):
        (draft.record or {}).pop("hinderedSince", None)
        return None
    return start_overdue(draft, facts, spec.start_deadline_seconds)


def _completed(draft: StatusDraft, base: Basis, facts: AttemptFacts) -> None:
    _mark_started(draft, facts)
    release_room(draft)
    result = result_of(facts)
    if result is not None:
        evaluate(draft, base, result)
        return
    describe_root(draft, _without_result(facts))
    restart_or_fail(draft, base.job.failure_policy)


def _without_result(facts: AttemptFacts) -> Ending:
    """Only a pod that was seen to end, and said nothing, is to blame for it."""
    first = next((pod for pod in facts.pods if pod.rank == 0 and pod.exit_code is not None), None)
    if first is None:
        reason = "all pods ended well, but the pod of rank 0 was gone before its result was read; it exports once more"
        return Ending(Cause.POD_LOST, reason)
    reason = "the pods ended with exit code 0, but rank 0 left no result in its termination message"
    if error := misunderstood(first.log_tail):
        reason = f"{reason} that this operator understands ({error}): is the trainer's image of another version?"
    return Ending(Cause.NO_RESULT, reason, first)


def result_of(facts: AttemptFacts) -> TrainingResult | None:
    """What rank 0 said that it made."""
    return next((pod.result for pod in facts.pods if pod.rank == 0 and pod.result), None)


def _suspend(draft: StatusDraft) -> None:
    """SIGTERM makes the ranks agree on a step and save; the next attempt goes on from there."""
    _mark_started(draft, draft.world.facts(draft.attempt))
    draft.end_attempt(Cause.SUSPENDED, "spec.suspend is true")
    draft.status["phase"] = "Suspended"
    draft.set("Running", False, Reason.SUSPENDED, "")
    draft.set("Suspended", False, Reason.STOPPING, "waiting for the pods to save a checkpoint and end")
    stop_gang(draft)


def _show_progress(draft: StatusDraft, base: Basis, facts: AttemptFacts) -> None:
    _mend_parts(draft, base)
    if not show_admission(draft, base, facts.job):
        look_ahead(draft, base, parse_time((facts.job or {}).get("metadata", {}).get("creationTimestamp")))
        return
    nodes = base.job.spec.distributed.nodes
    if facts.running(nodes):
        end_look(draft)
        _mark_started(draft, facts)
        if not draft.is_true("Running"):
            draft.event(Reason.ATTEMPT_RUNNING, f"attempt {draft.attempt}: {nodes} of {nodes} pods run")
        draft.status["phase"] = "Evaluating" if _trained(draft) else "Running"
        asked = f"; {base.asked.nodes} were asked for" if base.asked.nodes > nodes else ""
        draft.set("Running", True, Reason.ATTEMPT_RUNNING, f"{nodes} of {nodes} pods run{asked}{_stragglers(draft)}")
        return
    if draft.is_true("Running"):
        return  # pods that end one after the other
    hindrance = find_hindrance(facts, draft.world.evidence)
    if hindrance and hindrance.cause == Cause.UNSCHEDULABLE and hindrance.pod and hindrance.pod.rank == 0:
        look_ahead(draft, base, facts.waiting_since)
    else:
        end_look(draft)
    if hindrance:
        draft.set("Running", False, hindrance.reason, hindrance.message)
    else:
        draft.set("Running", False, "Starting", "")
    draft.status["phase"] = "Starting"


def _stragglers(draft: StatusDraft) -> str:
    ranks = [str(one["rank"]) for one in draft.reported.get("stragglers") or []]
    return f"; slower than the others: rank {', '.join(ranks)}" if ranks else ""


def _mend_parts(draft: StatusDraft, base: Basis) -> None:
    """A Service or ConfigMap that someone deleted: the ranks still need it to find each other, or to start.

    And what keeps the pods apart, deleted or edited, and the group by which their scheduler knows them.
    """
    name, world = attempt_name(base.job.name, draft.attempt), draft.world
    if world.policies is not None:
        draft.writes.extend(keep_isolation(base.job, world.facts(draft.attempt).job, world))
    groups = scheduling_objects(base.job) if world.around.absent else []
    draft.writes.extend(Create(body) for body in groups if named(body) in world.around.absent)
    present = {part["kind"] for part in world.parts if part["metadata"]["name"] == name}
    needed = {"ConfigMap"} if base.job.spec.distributed.nodes == 1 else {"ConfigMap", "Service"}
    if present >= needed:
        return
    objects = attempt_objects(base.job, base.snapshot, draft.attempt, world.settings)
    draft.writes.extend(Create(body) for body in objects if body["kind"] in needed - present)


def _mark_started(draft: StatusDraft, facts: AttemptFacts) -> None:
    """From here on a missing Job means a lost one."""
    if draft.record is not None and not draft.record.get("startedAt"):
        created = (facts.job or {}).get("metadata", {}).get("creationTimestamp")
        draft.record["startedAt"] = created or draft.now_text
