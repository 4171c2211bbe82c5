"""Reasons of events and conditions: one table, so that people and alerts can rely on the names."""

from enum import StrEnum
from typing import Literal

EventType = Literal["Normal", "Warning"]


class Reason(StrEnum):
    """CamelCase, past tense for what happened."""

    VALID = "Valid"
    INVALID_SPEC = "InvalidSpec"
    RUNTIME_NOT_FOUND = "RuntimeNotFound"
    MODEL_VERSION_NOT_FOUND = "ModelVersionNotFound"
    CLAIM_NOT_FOUND = "PersistentVolumeClaimNotFound"
    SECRET_NOT_FOUND = "SecretNotFound"
    DEPLOYMENT_TAKEN = "DeploymentTaken"
    SCHEDULER_NOT_FOUND = "SchedulerNotFound"
    QUEUE_NOT_FOUND = "QueueNotFound"
    QUEUED = "Queued"
    ADMITTED = "Admitted"
    PREFLIGHT_FAILED = "PreflightFailed"
    SPEC_CHANGE_IGNORED = "SpecChangeIgnored"
    SNAPSHOT_LOST = "SnapshotLost"
    RULES_CHANGED = "RulesChanged"
    ATTEMPT_STARTED = "AttemptStarted"
    ATTEMPT_RUNNING = "AttemptRunning"
    ATTEMPT_FAILED = "AttemptFailed"
    ATTEMPT_PREEMPTED = "AttemptPreempted"
    RESTARTING = "Restarting"
    RESIZED = "Resized"
    AWAITING_ROOM = "AwaitingRoom"
    ROOM_FOUND = "RoomFound"
    ROOM_RELEASED = "RoomReleased"
    RESTARTS_EXHAUSTED = "RestartsExhausted"
    CREATE_FAILED = "CreateFailed"
    STUCK_POD_DELETED = "StuckPodDeleted"
    STOPPING = "Stopping"
    SUSPENDED = "Suspended"
    RESUMED = "Resumed"
    GATES_PASSED = "GatesPassed"
    GATE_FAILED = "GateFailed"
    PUBLISHED = "Published"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    EXPIRED = "Expired"
    INTERNAL_ERROR = "InternalError"


WARNINGS = frozenset(
    {
        Reason.INVALID_SPEC,
        Reason.RUNTIME_NOT_FOUND,
        Reason.MODEL_VERSION_NOT_FOUND,
        Reason.CLAIM_NOT_FOUND,
        Reason.SECRET_NOT_FOUND,
        Reason.DEPLOYMENT_TAKEN,
        Reason.SCHEDULER_NOT_FOUND,
        Reason.QUEUE_NOT_FOUND,
        Reason.PREFLIGHT_FAILED,
        Reason.SPEC_CHANGE_IGNORED,
        Reason.SNAPSHOT_LOST,
        Reason.RULES_CHANGED,
        Reason.ATTEMPT_FAILED,
        Reason.RESTARTS_EXHAUSTED,
        Reason.RESIZED,
        Reason.CREATE_FAILED,
        Reason.STUCK_POD_DELETED,
        Reason.GATE_FAILED,
        Reason.FAILED,
        Reason.DEADLINE_EXCEEDED,
        Reason.INTERNAL_ERROR,
    }
)


def event_type(reason: Reason) -> EventType:
    """Whether a person should look."""
    return "Warning" if reason in WARNINGS else "Normal"
