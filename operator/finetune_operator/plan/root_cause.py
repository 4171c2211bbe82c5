"""Why an attempt ended: among the ends of its pods the one that the others followed from."""

import re
from datetime import UTC, datetime

from finetune_operator.plan.causes import Cause
from finetune_operator.plan.evidence import UNKNOWN, Evidence
from finetune_operator.plan.last_words import cause_of_code
from finetune_operator.plan.observation import AttemptFacts
from finetune_operator.plan.pod_endings import EVENT_CAUSES, Ending, pod_ending

ECHOES = (Cause.COMMUNICATION, Cause.HANG, Cause.CRASH, Cause.PREEMPTED, Cause.UNKNOWN)
"""What the peers of a pod on a silent node die of, before the cluster has noticed that the node is gone."""

EXIT_CODE = re.compile(r"^PodFailurePolicy: Container trainer for pod \S+ failed with exit code (\d+) ")
"""What the Job controller says of the pod for which it gave the Job up, also when that pod is gone.
https://github.com/kubernetes/kubernetes/blob/master/pkg/controller/job/pod_failure_policy.go"""


def find_ending(attempt: AttemptFacts, around: Evidence = UNKNOWN) -> Ending | None:
    """The root cause that the pods, their nodes and the Job show; None while nothing has gone wrong."""
    seen = [ending for pod in attempt.pods if (ending := pod_ending(pod, attempt, around))]
    if seen:
        root = min(seen, key=_root_order)
        return (_silent_node(attempt, around) if root.cause in ECHOES else None) or root
    if attempt.failing:
        if event := around.newest(tuple(EVENT_CAUSES)):
            return Ending(EVENT_CAUSES[event.reason], f"{event.reason}: {event.note}")
        code = EXIT_CODE.search(attempt.failure)
        cause = cause_of_code(int(code[1])) if code else Cause.UNKNOWN
        return Ending(cause, attempt.failure or "the Job failed and its pods are gone")
    if attempt.job is None or attempt.deleting:
        return Ending(Cause.JOB_DELETED, "the attempt's Job was deleted by someone else")
    return None


def _silent_node(attempt: AttemptFacts, around: Evidence) -> Ending | None:
    for pod in attempt.pods:
        if not pod.ended and (trouble := around.trouble_of(pod.node)):
            return Ending(Cause.NODE_LOST, trouble, pod)
    return None


def _root_order(ending: Ending) -> tuple[bool, int, tuple[bool, int], bool, datetime, int]:
    pod = ending.pod
    when = (pod and pod.finished_at) or datetime.max.replace(tzinfo=UTC)
    told = bool(pod and pod.deleting_at)
    return ending.stopped, ending.place, _stuck_first(ending), told, when, pod.rank if pod else 0


def _stuck_first(ending: Ending) -> tuple[bool, int]:
    """Of hung pods: the one with a rank that does not even answer, then the one that is furthest behind."""
    words = ending.pod.message if ending.pod and ending.cause == Cause.HANG else None
    if words is None:
        return False, 0
    return not ending.mute, words.step or 0
