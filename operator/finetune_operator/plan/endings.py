"""The end of an attempt: start again, or give up, by the cause's budget."""

from datetime import datetime, timedelta

from finetune_api.failure_policy import FailurePolicy
from finetune_operator.plan.budgets import allowed_restarts, backoff_seconds, count_restart, used_restarts
from finetune_operator.plan.causes import PREEMPTION, Cause, class_of
from finetune_operator.plan.names import attempt_name
from finetune_operator.plan.observation import AttemptFacts, PodFacts
from finetune_operator.plan.pod_endings import Ending
from finetune_operator.plan.preflight import end_look
from finetune_operator.plan.reasons import Reason
from finetune_operator.plan.status_draft import StatusDraft
from finetune_operator.plan.timestamps import rfc3339, still_to_wait
from finetune_operator.plan.world import Delete, Resource

SETTLE = timedelta(seconds=10)
"""How long the other pods of a failed gang may take to show that they are the root cause."""
HANG_SETTLE = timedelta(seconds=60)
"""After a hang every pod keeps the stacks of its ranks before it ends."""
STUCK = timedelta(seconds=60)
"""Past its grace period, a pod on a lost node is deleted by force."""


def is_settled(facts: AttemptFacts, ending: Ending, draft: StatusDraft) -> bool:
    """Whether the cause is known for good, or has been waited for long enough."""
    if ending.certain or facts.failed or facts.job is None or facts.deleting:
        return True
    if all(pod.ended for pod in facts.pods):
        return True
    wait = _patience_left(ending, draft)
    if wait > 0:
        draft.wake_after(wait)
    return wait <= 0


def _patience_left(ending: Ending, draft: StatusDraft) -> float:
    """Seconds until the other pods have had their time, counted from what was seen of the one that ended first."""
    pod = ending.pod
    patience = HANG_SETTLE if ending.cause == Cause.HANG else SETTLE
    if pod and pod.deleting_at:  # the end of its grace period, which may be far ahead
        return (pod.deleting_at + patience - draft.now).total_seconds()
    return still_to_wait(pod.finished_at if pod else None, patience.total_seconds(), draft.now)


def describe_root(draft: StatusDraft, ending: Ending) -> None:
    """Keeps the cause nearest to the root: a pod that showed it may be gone by now."""
    record = draft.record or {}
    if not record.get("cause"):
        draft.describe_ending(ending)
        return
    known = Ending(Cause(record["cause"]), record["reason"])
    nearer = ending.place < known.place and not ending.stopped
    if nearer or (known.cause == ending.cause == Cause.HANG and ending.mute):
        draft.describe_ending(ending)


def restart_or_fail(draft: StatusDraft, policy: FailurePolicy) -> None:
    """After a failure that is described in the record. Ends the attempt and stops what is left of it."""
    record = draft.record
    assert record is not None, "only an attempt that began can end"
    cause = Cause(record["cause"])
    draft.end_attempt(cause)
    used, allowed = used_restarts(draft.status, cause), allowed_restarts(policy, cause)
    what = describe(record)
    draft.event(Reason.ATTEMPT_PREEMPTED if cause in PREEMPTION else Reason.ATTEMPT_FAILED, what)
    if used >= allowed:
        _give_up(draft, cause, allowed, what)
        return
    count_restart(draft.status, cause)
    draft.status["phase"] = "Restarting"
    draft.set("Running", False, Reason.RESTARTING, what)
    wait = backoff_seconds(policy, used + 1, draft.world.uid, draft.attempt)
    draft.event(Reason.RESTARTING, f"restart {used + 1} of {allowed} after {cause}, in {wait:g} s at the earliest")
    stop_gang(draft)


def _give_up(draft: StatusDraft, cause: Cause, allowed: int, what: str) -> None:
    if allowed == 0:
        fail(draft, cause, what)
        return
    advice = f"all {allowed} restarts after {cause} are used (spec.failurePolicy.maxRestarts.{class_of(cause)})"
    fail(draft, Reason.RESTARTS_EXHAUSTED, f"{what}; {advice}")


def fail(draft: StatusDraft, reason: str, message: str) -> None:
    """The terminal state: the job never runs again."""
    draft.status["phase"] = "Failed"
    draft.status["completionTime"] = draft.now_text
    draft.set("Failed", True, reason, message)
    if draft.condition("Running"):
        draft.set("Running", False, reason, "")
    if draft.condition("Suspended"):
        draft.set("Suspended", False, reason, "")
    draft.event(Reason.FAILED, f"{reason}: {message}")
    stop_active(draft)


def describe(record: Resource) -> str:
    """One line: which attempt, which rank, where, why."""
    where = f"rank {record['rank']}" if record.get("rank") is not None else ""
    where += f" on node {record['node']}" if record.get("node") else ""
    return f"attempt {record['number']}: {record['cause']}{f' at {where.strip()}' if where else ''}: " + (
        record.get("reason") or "no further detail"
    )


def stop_gang(draft: StatusDraft) -> None:
    """Deletes every Job there is, its pods first, and what belongs to its attempt alone."""
    for facts in draft.world.attempts.values():
        _stop_job(draft, facts)
    draft.writes.extend(leftovers(draft, keep=0))
    end_look(draft)
    if not draft.growing:
        release_room(draft)


def stop_strays(draft: StatusDraft) -> None:
    """Deletes Jobs of other attempts than the current one, such as one whose creation took effect late."""
    for facts in draft.world.attempts.values():
        if facts.number != draft.attempt:
            _stop_job(draft, facts)


def release_room(draft: StatusDraft, why: str = "") -> None:
    """Gives the nodes back that were held for a larger gang."""
    room = draft.world.room
    if room.job is not None and not room.deleting:
        metadata = room.job["metadata"]
        draft.write_once(Delete("Job", draft.world.namespace, metadata["name"], metadata["uid"]))
    if draft.is_true("Growing"):
        draft.set("Growing", False, Reason.ROOM_RELEASED, why)


def stop_active(draft: StatusDraft) -> None:
    """Deletes Jobs that would go on running; a Job that has ended stays, for its logs."""
    for facts in draft.world.attempts.values():
        if not (facts.complete or facts.failing or facts.ended_by_itself):
            _stop_job(draft, facts)
    end_look(draft)
    release_room(draft)


def leftovers(draft: StatusDraft, keep: int) -> list[Delete]:
    """Services and ConfigMaps of attempts that are over. The first ConfigMap stays: it holds the snapshot."""
    names = {attempt_name(draft.world.name, keep)} if keep else set()
    first = attempt_name(draft.world.name, 1)
    return [
        Delete(part["kind"], draft.world.namespace, part["metadata"]["name"], part["metadata"]["uid"])
        for part in draft.world.parts
        if part["metadata"]["name"] not in names
        and not (part["kind"] == "ConfigMap" and part["metadata"]["name"] == first)
        and not part["metadata"].get("deletionTimestamp")
    ]


def delete_stuck_pods(draft: StatusDraft) -> None:
    """Pods of a lost node never confirm their end; the gang must not wait for them for ever."""
    for facts in draft.world.attempts.values():
        for pod in facts.pods:
            if pod.deleting_at is None:  # one that has ended goes at once, unless nobody is there to confirm it
                continue
            wait = _until_stuck(draft, pod, pod.deleting_at)
            if wait > 0:
                draft.wake_after(wait)
                continue
            note = f"pod {pod.name} did not end within {STUCK.seconds} s of {rfc3339(pod.deleting_at)}"
            draft.event(Reason.STUCK_POD_DELETED, f"{note}: deleted by force; its node {pod.node} may be lost")
            draft.writes.append(Delete("Pod", draft.world.namespace, pod.name, pod.uid, grace_seconds=0))


def _until_stuck(draft: StatusDraft, pod: PodFacts, deleting_at: datetime) -> float:
    """By the time that has passed here since its deletion was seen: the API server's clock may be another."""
    seen_for = draft.world.deleting_for.get(pod.uid)
    if seen_for is None or pod.grace_seconds is None:
        return (deleting_at + STUCK - draft.now).total_seconds()
    return pod.grace_seconds + STUCK.total_seconds() - seen_for


def _stop_job(draft: StatusDraft, facts: AttemptFacts) -> None:
    """Asks for the end of a Job, its pods first; once, whoever else in this step asks too."""
    if facts.job is None or facts.deleting:
        return
    metadata = facts.job["metadata"]
    draft.write_once(Delete("Job", draft.world.namespace, metadata["name"], metadata["uid"], propagation="Foreground"))
