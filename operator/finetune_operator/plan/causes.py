"""Why an attempt ended: one cause, with the pod that shows it."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal

from finetune_api.exit_codes import ExitCode
from finetune_operator.plan.observation import AttemptFacts, PodFacts

CauseClass = Literal["user", "infrastructure", "preemption"]


class Cause(StrEnum):
    """`status.attempts[].cause`."""

    SUCCEEDED = "Succeeded"
    USER_ERROR = "UserError"
    BAD_DATA = "BadData"
    OUT_OF_MEMORY = "OutOfMemory"
    INVALID_IMAGE = "InvalidImage"
    REJECTED = "Rejected"
    NO_RESULT = "NoResult"
    HANG = "Hang"
    CRASH = "Crash"
    NETWORK = "Network"
    NODE_LOST = "NodeLost"
    POD_LOST = "PodLost"
    JOB_DELETED = "JobDeleted"
    PREEMPTED = "Preempted"
    EVICTED = "Evicted"
    SUSPENDED = "Suspended"
    DEADLINE_EXCEEDED = "DeadlineExceeded"


USER = (
    Cause.USER_ERROR,
    Cause.BAD_DATA,
    Cause.OUT_OF_MEMORY,
    Cause.INVALID_IMAGE,
    Cause.REJECTED,
    Cause.NO_RESULT,
)
PREEMPTION = (Cause.PREEMPTED, Cause.EVICTED)

DISRUPTIONS = {
    "PreemptionByScheduler": Cause.PREEMPTED,
    "PreemptionByKubeScheduler": Cause.PREEMPTED,
    "Preempting": Cause.PREEMPTED,
    "EvictionByEvictionAPI": Cause.EVICTED,
    "TerminationByKubelet": Cause.EVICTED,
    "Evicted": Cause.EVICTED,
    "NodeShutdown": Cause.EVICTED,
    "Terminated": Cause.EVICTED,
    "DeletionByTaintManager": Cause.NODE_LOST,
    "DeletionByPodGC": Cause.NODE_LOST,
    "NodeLost": Cause.NODE_LOST,
}
OUTCOMES = {
    "ConfigurationError": Cause.USER_ERROR,
    "DataError": Cause.BAD_DATA,
    "OutOfMemory": Cause.OUT_OF_MEMORY,
    "Preempted": Cause.PREEMPTED,
    "Hang": Cause.HANG,
}
EXIT_CODES = {
    ExitCode.CONFIGURATION: Cause.USER_ERROR,
    ExitCode.DATA: Cause.BAD_DATA,
    ExitCode.OUT_OF_MEMORY: Cause.OUT_OF_MEMORY,
    ExitCode.PREEMPTED: Cause.PREEMPTED,
    ExitCode.HANG: Cause.HANG,
    143: Cause.PREEMPTED,  # SIGTERM: someone asked it to stop
}
NETWORK_SIGNS = (
    "connection closed by peer",
    "connection reset by peer",
    "connection refused",
    "socket timeout",
    "timed out waiting for clients",
    "distbackenderror",
    "distnetworkerror",
    "ncclremoteerror",
    "ncclsystemerror",
    "gloo/transport",
    "rendezvous",
    "name or service not known",
)
CODE_ERROR = re.compile(
    r"^(ArithmeticError|AssertionError|AttributeError|ImportError|IndexError|KeyError|ModuleNotFoundError|NameError"
    r"|NotImplementedError|RecursionError|SyntaxError|TypeError|UnboundLocalError|ValueError|ZeroDivisionError)\b"
)
"""Exceptions that the same code raises again from the same data. RuntimeError is not one: CUDA and NCCL raise it."""
# A peer's crash or lost connection is often only the echo of what happened elsewhere, and a rank that was
# told to stop never is the reason why.
ROOT_FIRST = (*USER, Cause.HANG, Cause.NODE_LOST, Cause.EVICTED, Cause.POD_LOST, Cause.CRASH, Cause.NETWORK)


@dataclass(frozen=True)
class Ending:
    """The cause, the evidence, and where it was seen."""

    cause: Cause
    reason: str
    pod: PodFacts | None = None

    @property
    def certain(self) -> bool:
        """Nothing that another pod may still tell can change this cause."""
        return self.cause in USER or self.cause == Cause.HANG


def class_of(cause: str) -> CauseClass:
    """Whose restart budget a cause eats."""
    if cause in USER:
        return "user"
    return "preemption" if cause in PREEMPTION else "infrastructure"


def find_ending(attempt: AttemptFacts) -> Ending | None:
    """The root cause that the pods and the Job show; None while nothing has gone wrong."""
    seen = [ending for pod in attempt.pods if (ending := _pod_ending(pod, attempt))]
    if seen:
        return min(seen, key=_root_order)
    if attempt.failing:
        return Ending(Cause.POD_LOST, attempt.failure or "the Job failed and its pods are gone")
    if attempt.job is None or attempt.deleting:
        return Ending(Cause.JOB_DELETED, "the attempt's Job was deleted by someone else")
    return None


def _pod_ending(pod: PodFacts, attempt: AttemptFacts) -> Ending | None:
    if pod.waiting_reason == "InvalidImageName":
        return Ending(Cause.INVALID_IMAGE, pod.waiting_message or pod.waiting_reason, pod)
    if pod.disruption and pod.phase != "Succeeded":
        cause = DISRUPTIONS.get(pod.disruption, Cause.POD_LOST)
        return Ending(cause, _sentence(pod.disruption, pod.disruption_message), pod)
    own_failure = _exit_cause(pod) if pod.failed else None
    if own_failure and own_failure != Cause.PREEMPTED:
        return Ending(own_failure, _exit_reason(pod), pod)
    if pod.deleting_at and not (attempt.failing or attempt.deleting) and pod.phase != "Succeeded":
        return Ending(Cause.POD_LOST, f"pod {pod.name} was deleted", pod)
    return Ending(own_failure, _exit_reason(pod), pod) if own_failure else None


def _exit_cause(pod: PodFacts) -> Cause:
    if pod.oom_killed:
        return Cause.OUT_OF_MEMORY
    if pod.cannot_start:
        return Cause.INVALID_IMAGE
    if pod.message and pod.message.outcome in OUTCOMES:
        return OUTCOMES[pod.message.outcome]
    if pod.exit_code in EXIT_CODES:
        return EXIT_CODES[pod.exit_code]
    if pod.exit_code is None:
        return Cause.POD_LOST
    text = pod.log_tail.lower()
    if any(sign in text for sign in NETWORK_SIGNS):
        return Cause.NETWORK
    return Cause.USER_ERROR if CODE_ERROR.match(_telling_line(pod)) else Cause.CRASH


def _exit_reason(pod: PodFacts) -> str:
    if pod.oom_killed:
        return f"exit code {pod.exit_code}: killed for using more memory than its limit"
    ending = f"exit code {pod.exit_code}" if pod.exit_code is not None else "the pod failed"
    return _sentence(ending, _telling_line(pod))


def _telling_line(pod: PodFacts) -> str:
    """Of a message the first line says it; of a log, or a traceback, the last."""
    lines = pod.log_tail.splitlines()
    if not lines:
        return ""
    return lines[0] if pod.message and "Traceback" not in lines[0] else lines[-1]


def _sentence(head: str, tail: str) -> str:
    return f"{head}: {tail}" if tail else head


def _root_order(ending: Ending) -> tuple[int, bool, datetime, int]:
    pod = ending.pod
    when = (pod and pod.finished_at) or datetime.max.replace(tzinfo=UTC)
    # What ends while it is deleted was told to: after a failure the Job controller stops the other pods.
    told = bool(pod and pod.deleting_at)
    return root_place(ending.cause, disrupted=bool(pod and pod.disruption)), told, when, pod.rank if pod else 0


def root_place(cause: str, *, disrupted: bool = False) -> int:
    """How near to the root a cause is; among equals the first one in time is."""
    if disrupted:
        return ROOT_FIRST.index(Cause.EVICTED)
    if cause in USER or cause == Cause.HANG:
        return 0
    return ROOT_FIRST.index(Cause(cause)) if cause in ROOT_FIRST else len(ROOT_FIRST)
