"""Why one pod ended: from its status, its node and its events to a cause with the evidence.

The fields: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/ and, for what the cluster itself takes
away, https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-conditions.
"""

import re
from dataclasses import dataclass

from finetune_operator.plan.causes import OUT_OF_MEMORY, USER, Cause, root_place
from finetune_operator.plan.evidence import Evidence
from finetune_operator.plan.last_words import cause_of_words, exit_words, telling_line
from finetune_operator.plan.node_words import over_its_limit, program_missing, used_up
from finetune_operator.plan.observation import AttemptFacts, PodFacts
from finetune_operator.plan.pod_shape import CONTAINER

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
"""Reasons of the DisruptionTarget condition, and of pods that the kubelet ended."""
OWN_DOING = {"memory": Cause.HOST_OUT_OF_MEMORY, "ephemeral-storage": Cause.OUT_OF_DISK}
"""By what a node ran short of."""
START_ERRORS = ("StartError", "ContainerCannotRun")
AFTER_REBOOT = 255
"""With the reason Unknown: containerd finds a container of before, and not how it ended."""
REFUSALS = re.compile(
    r"^(UnexpectedAdmissionError|OutOf\w+|Node(Affinity|Name|Ports)|TopologyAffinityError|SMTAlignmentError"
    r"|PodOSNotSupported|PodOSSelectorNodeLabelDoesNotMatch|PodLevelResources\w*|AppArmor|Seccomp|Sysctl\w*)"
)
"""The kubelet's own admission: a device plugin without healthy devices, a node that is full after all."""
KILLED = 137
"""Of a pod that is being deleted: by the kubelet, when its grace period is over, as one that saves to slow storage."""
EVENT_CAUSES = {
    "Preempted": Cause.PREEMPTED,
    "Evict": Cause.PREEMPTED,  # Volcano, which deletes plainly
    "TaintManagerEviction": Cause.NODE_LOST,
    "NodeNotReady": Cause.NODE_LOST,
    "Evicted": Cause.EVICTED,
    "NodeShutdown": Cause.EVICTED,
}
"""Of pods that are gone, or going, and do not say why themselves."""
WITHDRAWN = "Withdrawn"
"""By the queue that had let the Job go."""
TAKEN = {*DISRUPTIONS, *EVENT_CAUSES, WITHDRAWN}
SIGNALLED = (None, KILLED, 143)
"""Exit codes of what is told to stop, and does not in time."""


@dataclass(frozen=True)
class Ending:
    """The cause, the evidence, and where it was seen."""

    cause: Cause
    reason: str
    pod: PodFacts | None = None

    @property
    def certain(self) -> bool:
        """Nothing that another pod may still tell can change this cause."""
        return self.cause in USER or self.cause in OUT_OF_MEMORY

    @property
    def place(self) -> int:
        """How near to the root it is, 0 the nearest; what the cluster says that it took away is an eviction's equal."""
        taken = bool(self.pod and self.pod.disruption) or self.reason.partition(":")[0] in TAKEN
        return root_place(self.cause, disrupted=taken)

    @property
    def stopped(self) -> bool:
        """It was told to stop, as the Job controller tells all pods of a failed gang, and says nothing else."""
        if self.pod is None or self.pod.deleting_at is None or self.pod.disruption:
            return False
        return self.pod.exit_code in SIGNALLED and self.cause in (Cause.CRASH, Cause.PREEMPTED, Cause.UNKNOWN)

    @property
    def mute(self) -> bool:
        """A rank of this pod did not even answer when it was asked for its stack."""
        return any(one.state for one in self.pod.message.stacks) if self.pod and self.pod.message else False


def pod_ending(pod: PodFacts, attempt: AttemptFacts, around: Evidence) -> Ending | None:
    """How a pod ended, or is about to; None while nothing has gone wrong with it."""
    if pod.waiting_reason == "InvalidImageName":
        return Ending(Cause.INVALID_IMAGE, pod.waiting_message or pod.waiting_reason, pod)
    if pod.phase == "Succeeded":
        return None
    if pod.disruption:
        return _disrupted(pod)
    if pod.status_reason == "DeadlineExceeded":
        text = f"{pod.status_message or 'the pod ran too long'} (activeDeadlineSeconds of the pod template)"
        return Ending(Cause.DEADLINE_EXCEEDED, text, pod)
    if pod.phase == "Failed" and REFUSALS.match(pod.status_reason):
        text = f"node {pod.node} refused the pod: {pod.status_reason}: {pod.status_message}"
        return Ending(Cause.UNSCHEDULABLE, text, pod)
    own = _own_end(pod, around) if pod.failed else None
    if (
        (own is None or own.cause == Cause.PREEMPTED or own.stopped)
        and pod.deleting_at
        and not (attempt.failing or attempt.deleting)
    ):
        return _deleted(pod, around)
    return own


def _disrupted(pod: PodFacts) -> Ending:
    words = f"{pod.status_message} {pod.disruption_message}"
    cause = DISRUPTIONS.get(pod.disruption, Cause.POD_LOST)
    if resource := used_up(words):
        cause = OWN_DOING[resource]
    elif over_its_limit(words):
        cause = Cause.USER_ERROR
    return Ending(cause, _sentence(pod.disruption, pod.disruption_message or pod.status_message), pod)


def _deleted(pod: PodFacts, around: Evidence) -> Ending:
    """Its deletion was asked for, and not by the Job's own controller."""
    if event := around.newest(tuple(EVENT_CAUSES), pod.name):
        return Ending(EVENT_CAUSES[event.reason], _sentence(event.reason, event.note), pod)
    if trouble := around.trouble_of(pod.node):
        return Ending(Cause.NODE_LOST, trouble, pod)
    return Ending(Cause.POD_LOST, f"pod {pod.name} was deleted", pod)


def _own_end(pod: PodFacts, around: Evidence) -> Ending:
    if pod.container != CONTAINER:
        return _end_of_another(pod)
    if pod.ended_reason == "OOMKilled":
        text = f"exit code {pod.exit_code}: killed for using more memory than its limit"
        return Ending(Cause.HOST_OUT_OF_MEMORY, text, pod)
    if pod.ended_reason in START_ERRORS:
        cause = Cause.INVALID_IMAGE if program_missing(pod.log_tail) else Cause.CANNOT_START
        return Ending(cause, _sentence(exit_words(pod.exit_code), telling_line(pod)), pod)
    if pod.ended_reason == "ContainerStatusUnknown" or (pod.ended_reason, pod.exit_code) == ("Unknown", AFTER_REBOOT):
        lost = around.trouble_of(pod.node) or telling_line(pod) or "the node lost sight of the container"
        return Ending(Cause.NODE_LOST, lost, pod)
    if pod.exit_code is None:
        return _without_a_word(pod, around)
    if pod.exit_code == KILLED and pod.deleting_at and not pod.message:
        text = f"{exit_words(pod.exit_code)}: told to stop, it had not ended within its grace period"
        return Ending(Cause.PREEMPTED, text, pod)
    return Ending(cause_of_words(pod), _sentence(exit_words(pod.exit_code), telling_line(pod)), pod)


def _end_of_another(pod: PodFacts) -> Ending:
    """An init container or a sidecar, from a template or injected: its exit codes are its own affair."""
    memory = pod.ended_reason == "OOMKilled"
    where = f"container {pod.container}: {exit_words(pod.exit_code)}"
    cause = Cause.CANNOT_START if pod.ended_reason in START_ERRORS else Cause.CRASH
    cause = Cause.HOST_OUT_OF_MEMORY if memory else cause
    return Ending(cause, _sentence(where, "out of memory" if memory else telling_line(pod)), pod)


def _without_a_word(pod: PodFacts, around: Evidence) -> Ending:
    if trouble := around.trouble_of(pod.node):
        return Ending(Cause.NODE_LOST, trouble, pod)
    words = _sentence(pod.status_reason, pod.status_message) or "its status does not say why"
    return Ending(Cause.UNKNOWN, f"the pod failed: {words}", pod)


def _sentence(head: str, tail: str) -> str:
    return f"{head}: {tail}" if head and tail else head or tail
