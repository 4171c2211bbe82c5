"""The next step of a FineTuneJob: one function from what is observed to what should be.

Level-triggered: the state is the status and the objects, never the event that woke us. A step first fixes its
decision in the status, by compare-and-swap, and only then acts, so a crash between any two writes repeats the
rest of the same step; see `controllers.fine_tune_job`.
"""

from finetune_operator.plan.attempt import attempt_objects, digest_of
from finetune_operator.plan.basis import Basis, NotYet, basis
from finetune_operator.plan.budgets import backoff_seconds, used_restarts
from finetune_operator.plan.causes import Cause
from finetune_operator.plan.deadline import deadline_passed, fail_deadline
from finetune_operator.plan.elastic import next_size
from finetune_operator.plan.endings import (
    delete_stuck_pods,
    describe_root,
    fail,
    leftovers,
    release_room,
    restart_or_fail,
    stop_active,
    stop_gang,
    stop_strays,
)
from finetune_operator.plan.isolation import isolation_writes
from finetune_operator.plan.pod_endings import Ending
from finetune_operator.plan.preflight import await_preflight, end_look
from finetune_operator.plan.publication import publish
from finetune_operator.plan.queueing import show_admission
from finetune_operator.plan.reasons import Reason
from finetune_operator.plan.running import attend
from finetune_operator.plan.spec_change import changed_fields, ignored_message
from finetune_operator.plan.status_draft import MESSAGE_LIMIT, StatusDraft
from finetune_operator.plan.timestamps import seconds_between, still_to_wait
from finetune_operator.plan.validation import InvalidSpec
from finetune_operator.plan.world import Create, Delete, Plan, World, Write

SCHEDULER_SECONDS = 30.0
SUSPENSION = (Reason.SUSPENDED, Reason.STOPPING)
"""Reasons of the condition Suspended while `spec.suspend` is true."""


def plan_job(world: World) -> Plan:
    """What to do now."""
    draft = StatusDraft(world)
    if draft.finished:
        _after_finish(draft)
        return draft.plan()
    draft.unseen = world.snapshot is None and "snapshotDigest" in draft.status and not world.snapshot_lost
    if world.look_again is not None:
        draft.wake_after(world.look_again)
    try:
        base = basis(world)
    except InvalidSpec as error:
        _refuse(draft, str(error))
    except NotYet as missing:
        _wait_for(draft, missing)
    else:
        _accept(draft, base)
        _step(draft, base)
    if draft.condition("Planned"):
        draft.set("Planned", True, Reason.VALID)
    return draft.plan()


def at_a_loss(world: World, fault: Exception) -> Plan:
    """What to say of a job for which no step could be found: a fault of ours, which is tried again."""
    draft = StatusDraft(world)
    told = f"{type(fault).__name__}: {fault}; this is a fault of the operator, whose log has the rest: report it"
    if draft.condition("Planned").get("message") != told[:MESSAGE_LIMIT]:
        draft.event(Reason.INTERNAL_ERROR, told)
    draft.set("Planned", False, Reason.INTERNAL_ERROR, told)
    return draft.plan()


def reject(world: World, message: str) -> Plan:
    """The API server refuses the attempt's objects for what they are: trying again cannot help."""
    draft = StatusDraft(world)
    draft.end_attempt(Cause.REJECTED, message)
    fail(draft, Reason.INVALID_SPEC, f"the API server refuses the pods of this job: {message}")
    return draft.plan()


def cannot_create(world: World, kind: str, message: str) -> Plan:
    """The API server does not take an object now: quota, admission, a name that is taken."""
    draft = StatusDraft(world)
    condition = "Published" if kind in ("ModelVersion", "ModelDeployment") else "Running"
    if draft.condition(condition).get("message") != message[:MESSAGE_LIMIT]:
        draft.event(Reason.CREATE_FAILED, message)
    runs = condition == "Running" and draft.is_true("Running")  # and lacks something, such as a deleted Service
    draft.set(condition, runs, Reason.CREATE_FAILED, message)
    return draft.plan()


def _refuse(draft: StatusDraft, errors: str) -> None:
    draft.set("Validated", False, Reason.INVALID_SPEC, errors)
    draft.event(Reason.INVALID_SPEC, errors)
    if not draft.ended_at:
        draft.end_attempt(Cause.REJECTED, errors)
    fail(draft, Reason.INVALID_SPEC, errors)


def _wait_for(draft: StatusDraft, missing: NotYet) -> None:
    if draft.condition("Validated").get("reason") != missing.reason:
        draft.event(missing.reason, str(missing))
    draft.set("Validated", False, missing.reason, str(missing))
    if missing.reason == Reason.SCHEDULER_NOT_FOUND:
        draft.wake_after(SCHEDULER_SECONDS)  # no watch tells of a new API group


def _accept(draft: StatusDraft, base: Basis) -> None:
    started = draft.world.snapshot is not None
    if not started and draft.status.get("snapshotDigest") not in (None, digest_of(base.snapshot.dump())):
        _tell_of_loss(draft)
        return
    if base.errors:
        _tell_of_rules(draft, base.errors)
        return
    paths = changed_fields(base.snapshot.spec, draft.world.job["spec"]) if started else []
    if not paths:
        draft.set("Validated", True, Reason.VALID, _warnings(draft, base, started=started))
        return
    message = ignored_message(paths)
    if draft.condition("Validated").get("message") != message:
        draft.event(Reason.SPEC_CHANGE_IGNORED, message)
    draft.set("Validated", True, Reason.SPEC_CHANGE_IGNORED, message)


def _tell_of_loss(draft: StatusDraft) -> None:
    """Nothing else keeps what the job started with: its pods go on with that, the next attempt with what there is."""
    message = (
        "the ConfigMap that kept what the job started with was deleted, and the spec or the runtime has changed since: "
        "the next attempt goes by what they are now"
    )
    if draft.condition("Validated").get("reason") != Reason.SNAPSHOT_LOST:
        draft.event(Reason.SNAPSHOT_LOST, message)
    draft.set("Validated", True, Reason.SNAPSHOT_LOST, message)


def _tell_of_rules(draft: StatusDraft, errors: tuple[str, ...]) -> None:
    """An operator of before an upgrade, or a rollback, has let it start: what runs is not ended for that."""
    head = "this operator would refuse the job, which another one has started; what runs goes on, and nothing after it:"
    message = "\n".join((head, *errors))
    if draft.condition("Validated").get("message") != message[:MESSAGE_LIMIT]:
        draft.event(Reason.RULES_CHANGED, message)
    draft.set("Validated", True, Reason.RULES_CHANGED, message)


def _warnings(draft: StatusDraft, base: Basis, *, started: bool) -> str:
    """They are looked for until the job starts; what was found then stays to be read."""
    known = draft.condition("Validated")
    if started and known.get("reason") == Reason.VALID:
        return str(known.get("message", ""))
    return "\n".join(base.warnings)


def _step(draft: StatusDraft, base: Basis) -> None:
    record = draft.record
    if record is None or (record.get("endedAt") and record["cause"] != Cause.SUCCEEDED):
        _between_attempts(draft, base)
        return
    stop_strays(draft)
    if record["cause"] == Cause.SUCCEEDED and record.get("endedAt"):
        publish(draft, base)
    elif not _recreate(draft, base):
        attend(draft, base)


def _between_attempts(draft: StatusDraft, base: Basis) -> None:
    gone = all(facts.gone for facts in draft.world.attempts.values())
    delete_stuck_pods(draft)
    if draft.condition("Suspended").get("reason") in SUSPENSION and not base.job.spec.suspend:
        _resume(draft)
    if not gone:
        stop_gang(draft)
    if base.job.spec.suspend:
        _rest(draft, gone)
    elif deadline_passed(draft, base):
        fail_deadline(draft, base)
    elif gone and base.errors:
        _refuse(draft, "\n".join(base.errors))
    elif gone and not _backing_off(draft, base):
        _start(draft, base)


def _rest(draft: StatusDraft, gone: bool) -> None:
    release_room(draft)
    end_look(draft)
    if not gone:
        draft.set("Suspended", False, Reason.STOPPING, "waiting for the pods to save a checkpoint and end")
        return
    if not draft.is_true("Suspended"):
        draft.event(Reason.SUSPENDED, "no pods run until spec.suspend is false")
    draft.status["phase"] = "Suspended"
    draft.set("Suspended", True, Reason.SUSPENDED, "spec.suspend is true")


def _backing_off(draft: StatusDraft, base: Basis) -> bool:
    record = draft.record
    if record is None or record["cause"] in (Cause.SUSPENDED, Cause.RESIZED):
        return False
    restarts = max(used_restarts(draft.status, record["cause"]), 1)
    delay = backoff_seconds(base.job.failure_policy, restarts, draft.world.uid, draft.attempt)
    wait = still_to_wait(draft.ended_at, delay, draft.now)
    if wait > 0:
        draft.wake_after(wait)
    return wait > 0


def _start(draft: StatusDraft, base: Basis) -> None:
    draft.unseen |= draft.attempt > 0  # nothing may be left of the gang before
    checkpoint = (draft.world.job.get("status") or {}).get("lastCheckpoint") or {}
    base = base.on(next_size(draft, base))
    number = draft.begin_attempt(checkpoint.get("step"), base.job.spec.distributed.nodes)
    draft.status["snapshotDigest"] = digest_of(base.snapshot.dump())
    draft.status["phase"] = "Starting"
    draft.set("Running", False, "Starting", "")
    await_preflight(draft)
    show_admission(draft, base, None)
    if number > 1:  # that a new job starts, everybody sees
        start = f"from the checkpoint of step {checkpoint['step']}" if checkpoint else "from the beginning"
        gang = base.job.spec.distributed
        size = f"pods: {gang.nodes}, processes in each: {gang.processes_per_node}"
        draft.event(Reason.ATTEMPT_STARTED, f"attempt {number} ({size}), {start}")
    draft.writes.extend(leftovers(draft, keep=number))
    release_room(draft)
    draft.writes.extend(_objects(draft, base))


def _resume(draft: StatusDraft) -> None:
    # Before the first start, and in a queue, no clock runs; until the pods have ended, it does.
    if draft.is_true("Suspended") and draft.attempt and not draft.queued_seconds():
        draft.not_active(seconds_between(draft.condition("Suspended").get("lastTransitionTime"), draft.now))
    draft.set("Suspended", False, Reason.RESUMED, "")
    draft.event(Reason.RESUMED, "spec.suspend is false")


def _recreate(draft: StatusDraft, base: Basis) -> bool:
    """An attempt that was announced but whose Job was never seen: make what is missing."""
    record, facts = draft.record, draft.world.facts(draft.attempt)
    if record is None or record.get("startedAt") or facts.job is not None:
        return False
    if base.job.spec.suspend or deadline_passed(draft, base):
        return False
    if overdue := _make_overdue(draft, base):
        describe_root(draft, overdue)
        restart_or_fail(draft, base.job.failure_policy)
        draft.unseen = True  # the Job may have been made meanwhile
        return True
    gone = all(one.gone for one in draft.world.attempts.values())
    if gone and base.errors:
        _refuse(draft, "\n".join(base.errors))
        draft.unseen = True
        return True
    if gone:
        draft.writes.extend(_objects(draft, base))
    delete_stuck_pods(draft)
    return True


def _make_overdue(draft: StatusDraft, base: Basis) -> Ending | None:
    """The end of an attempt whose Job the API server does not take, for a quota or a webhook; else wakes up in time."""
    limit, planned = base.job.spec.start_deadline_seconds, (draft.record or {}).get("plannedAt")
    if limit is None or planned is None:
        return None
    wait = limit - seconds_between(planned, draft.now)
    if wait > 0:
        draft.wake_after(wait)
        return None
    why = draft.condition("Running").get("message") or "its Job was not seen"
    return Ending(Cause.START_DEADLINE, f"not made within spec.startDeadlineSeconds ({limit}): {why}")


def _objects(draft: StatusDraft, base: Basis) -> list[Write]:
    world = draft.world
    objects = attempt_objects(base.job, base.snapshot, draft.attempt, world.settings)
    return [*isolation_writes(base.job, world), *(Create(body) for body in objects)]


def _after_finish(draft: StatusDraft) -> None:
    """A finished job never runs again: what is left is to stop strays, to tell of edits, and to expire."""
    draft.status["phase"] = "Succeeded" if draft.is_true("Succeeded") else "Failed"
    stop_active(draft)
    world = draft.world
    if world.snapshot and draft.generation != draft.status.get("observedGeneration"):
        paths = changed_fields(world.snapshot.spec, world.job["spec"])
        if paths:
            draft.set("Validated", True, Reason.SPEC_CHANGE_IGNORED, ignored_message(paths))
            draft.event(Reason.SPEC_CHANGE_IGNORED, ignored_message(paths))
    ttl = _ttl_seconds(world)
    if ttl is None:
        return
    wait = ttl - seconds_between(draft.status.get("completionTime"), draft.now)
    if wait > 0:
        draft.wake_after(wait)
        return
    draft.event(Reason.EXPIRED, f"finished more than {ttl} s ago (ttlSecondsAfterFinished)")
    draft.writes.append(Delete("FineTuneJob", world.namespace, world.name, world.uid))


def _ttl_seconds(world: World) -> int | None:
    runtime = world.snapshot.runtime if world.snapshot else None
    own = world.job["spec"].get("ttlSecondsAfterFinished")
    inherited = (runtime or {}).get("ttlSecondsAfterFinished")
    ttl = own if own is not None else inherited
    return ttl if isinstance(ttl, int) and ttl >= 0 else None
