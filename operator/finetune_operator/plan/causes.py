"""Why an attempt ends: the causes, whose budget each one eats, and how near to the root of a failure each one is."""

from enum import StrEnum
from typing import Literal

CauseClass = Literal["user", "outOfMemory", "infrastructure", "preemption"]
"""Fields of `failurePolicy.maxRestarts`."""


class Cause(StrEnum):
    """`status.attempts[].cause`."""

    SUCCEEDED = "Succeeded"
    SUSPENDED = "Suspended"
    RESIZED = "Resized"
    """Nodes were missing: the next attempt has fewer pods. No failure, and no budget counts it."""

    USER_ERROR = "UserError"
    """A wrong configuration, or an exception in code that the same code raises again."""
    BAD_DATA = "BadData"
    INVALID_IMAGE = "InvalidImage"
    """An image name that is none, or an image without the program."""
    REJECTED = "Rejected"
    """By the API server, for what the objects are."""
    NO_RESULT = "NoResult"
    BAD_EXPORT = "BadExport"
    """What was written is not the model that was trained: written again, it would be the same."""
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    """`activeDeadlineSeconds`, of the job or in a pod template."""

    HOST_OUT_OF_MEMORY = "HostOutOfMemory"
    GPU_OUT_OF_MEMORY = "GPUOutOfMemory"

    OUT_OF_DISK = "OutOfDisk"
    """The node was, for what the pod wrote beyond its request; another node may have more."""
    COMMUNICATION = "Communication"
    """Between the ranks (NCCL, gloo, rendezvous), or to the storage."""
    HANG = "Hang"
    NODE_LOST = "NodeLost"
    POD_LOST = "PodLost"
    """Deleted by someone."""
    JOB_DELETED = "JobDeleted"
    IMAGE_PULL = "ImagePull"
    UNSCHEDULABLE = "Unschedulable"
    """No node has room, or the node's kubelet refused the pod."""
    CANNOT_START = "CannotStart"
    """Something that its containers need is missing: a Secret, a volume, the network."""
    START_DEADLINE = "StartDeadlineExceeded"
    CRASH = "Crash"
    UNKNOWN = "Unknown"

    PREEMPTED = "Preempted"
    EVICTED = "Evicted"

    @classmethod
    def _missing_(cls, value: object) -> "Cause":
        return cls.UNKNOWN  # written by an operator of another version


USER = (
    Cause.USER_ERROR,
    Cause.BAD_DATA,
    Cause.INVALID_IMAGE,
    Cause.REJECTED,
    Cause.NO_RESULT,
    Cause.BAD_EXPORT,
    Cause.DEADLINE_EXCEEDED,
)
OUT_OF_MEMORY = (Cause.HOST_OUT_OF_MEMORY, Cause.GPU_OUT_OF_MEMORY)
PREEMPTION = (Cause.PREEMPTED, Cause.EVICTED)
NOT_STARTED = (Cause.CANNOT_START, Cause.IMAGE_PULL, Cause.UNSCHEDULABLE, Cause.START_DEADLINE)

ROOT_FIRST = (
    Cause.NODE_LOST,
    Cause.OUT_OF_DISK,
    Cause.EVICTED,
    Cause.HANG,
    Cause.CRASH,
    Cause.POD_LOST,
    Cause.COMMUNICATION,
    Cause.JOB_DELETED,
    *NOT_STARTED,
    Cause.UNKNOWN,
)
"""A hang or a cut connection is often only the echo of what happened elsewhere, and a rank that was told to stop
never is the reason why."""


def class_of(cause: str) -> CauseClass:
    """Whose restart budget a cause eats."""
    if cause in USER:
        return "user"
    if cause in OUT_OF_MEMORY:
        return "outOfMemory"
    return "preemption" if cause in PREEMPTION else "infrastructure"


def root_place(cause: str, *, disrupted: bool = False) -> int:
    """How near to the root a cause is, 0 the nearest; among equals the first one in time is.

    `disrupted`: the cluster itself says that it took the pod away.
    """
    if cause in USER or cause in OUT_OF_MEMORY:
        return 0
    known = Cause.EVICTED if disrupted and cause != Cause.NODE_LOST else cause
    return 1 + (ROOT_FIRST.index(Cause(known)) if known in ROOT_FIRST else len(ROOT_FIRST))
