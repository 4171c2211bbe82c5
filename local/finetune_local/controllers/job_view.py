"""A Job and its pods, counted. Pure: no clock, no I/O."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from finetune_local.controllers import conditions
from finetune_local.controllers.indexes import parse_indexes
from finetune_local.controllers.job_failures import COUNT, FAIL_INDEX, FAIL_JOB, IGNORE, judge
from finetune_local.controllers.owned_pods import is_active, is_finished, is_terminating, phase
from finetune_local.network.names import is_ready

Object = dict[str, Any]

INDEX_KEY = "batch.kubernetes.io/job-completion-index"
INDEX_FAILURES_KEY = "batch.kubernetes.io/job-index-failure-count"
TRACKING = "batch.kubernetes.io/job-tracking"


@dataclass(frozen=True)
class Outcome:
    """The condition with which a Job ends."""

    kind: str
    reason: str
    message: str


@dataclass
class JobView:
    """What the controller decides upon."""

    job: Object
    pods: list[Object]
    active: list[Object] = field(default_factory=list)
    terminating: list[Object] = field(default_factory=list)
    succeeded: int = 0
    failed: int = 0
    completed_indexes: set[int] = field(default_factory=set)
    failed_indexes: set[int] = field(default_factory=set)
    counted: list[Object] = field(default_factory=list)
    """Finished pods that this view counts for the first time: their finalizer may go once the status is written."""
    new_failures: list[Object] = field(default_factory=list)
    verdict: Outcome | None = None
    """Set when a podFailurePolicy rule ends the Job."""

    @property
    def spec(self) -> Object:
        spec: Object = self.job["spec"]
        return spec

    @property
    def status(self) -> Object:
        return self.job.get("status") or {}

    @property
    def conditions(self) -> list[Object]:
        return self.status.get("conditions") or []

    @property
    def indexed(self) -> bool:
        return bool(self.spec.get("completionMode") == "Indexed")

    @property
    def completions(self) -> int | None:
        found = self.spec.get("completions")
        return 1 if found is None and self.spec.get("parallelism") is None else found

    @property
    def parallelism(self) -> int:
        found = self.spec.get("parallelism")
        return 1 if found is None else int(found)

    @property
    def suspended(self) -> bool:
        return bool(self.spec.get("suspend"))

    @property
    def replaces_only_failed(self) -> bool:
        default = "Failed" if self.spec.get("podFailurePolicy") else "TerminatingOrFailed"
        return bool(self.spec.get("podReplacementPolicy", default) == "Failed")

    @property
    def ready(self) -> int:
        return sum(map(is_ready, self.active))

    def finished(self) -> bool:
        return any(conditions.is_true(self.conditions, kind) for kind in ("Complete", "Failed"))


def view_job(job: Object, pods: Iterable[Object], already_counted: set[str]) -> JobView:
    """`already_counted`: uids of pods that are in the status though the cache shows their finalizer still."""
    view = JobView(job, list(pods))
    status = view.status
    view.completed_indexes = parse_indexes(status.get("completedIndexes"))
    view.failed_indexes = parse_indexes(status.get("failedIndexes"))
    view.succeeded, view.failed = status.get("succeeded", 0), status.get("failed", 0)
    view.active = [pod for pod in view.pods if is_active(pod)]
    view.terminating = [pod for pod in view.pods if is_terminating(pod) and not is_finished(pod)]
    for pod in view.pods:
        if TRACKING in (pod["metadata"].get("finalizers") or []) and pod["metadata"]["uid"] not in already_counted:
            _count(view, pod)
    if view.indexed:
        view.succeeded = len(view.completed_indexes)
    return view


def _count(view: JobView, pod: Object) -> None:
    if phase(pod) == "Succeeded":
        view.counted.append(pod)
        index = pod_index(pod)
        if not view.indexed:
            view.succeeded += 1
        elif index is not None and index < (view.completions or 0):
            view.completed_indexes.add(index)
    elif _failed(view, pod):
        view.counted.append(pod)
        if not (view.suspended and is_terminating(pod)):
            _count_failure(view, pod)


def _failed(view: JobView, pod: Object) -> bool:
    if phase(pod) == "Failed":
        return True
    return is_terminating(pod) and (view.suspended or view.finished() or not view.replaces_only_failed)


def _count_failure(view: JobView, pod: Object) -> None:
    verdict = judge(view.spec.get("podFailurePolicy"), pod) if phase(pod) == "Failed" else None
    action = verdict.action if verdict else COUNT
    if action == FAIL_JOB and verdict:
        view.verdict = Outcome("Failed", "PodFailurePolicy", verdict.message)
    if action == IGNORE:
        return
    view.failed += 1
    view.new_failures.append(pod)
    limit = view.spec.get("backoffLimitPerIndex")
    index = pod_index(pod)
    if limit is not None and index is not None and (action == FAIL_INDEX or index_failures(pod) >= limit):
        view.failed_indexes.add(index)


def pod_index(pod: Object) -> int | None:
    value = (pod["metadata"].get("annotations") or {}).get(INDEX_KEY)
    return int(value) if value is not None else None


def index_failures(pod: Object) -> int:
    """Failures of this pod's index before the pod itself."""
    return int((pod["metadata"].get("annotations") or {}).get(INDEX_FAILURES_KEY, 0))


def decide(view: JobView, seconds_active: float | None) -> Outcome | None:
    """How the Job ends, None while it goes on."""
    return _interim(view) or view.verdict or _failure(view, seconds_active) or _success(view)


def _interim(view: JobView) -> Outcome | None:
    """A decision that an earlier sync wrote stands."""
    for interim, final in (("FailureTarget", "Failed"), ("SuccessCriteriaMet", "Complete")):
        found = conditions.find(view.conditions, interim)
        if found and found["status"] == "True":
            return Outcome(final, found["reason"], found["message"])
    return None


def _failure(view: JobView, seconds_active: float | None) -> Outcome | None:
    per_index = view.spec.get("backoffLimitPerIndex") is not None
    limit = view.spec.get("backoffLimit")
    limit = (2**31 - 1 if per_index else 6) if limit is None else limit
    if view.failed > limit or _restarts_exceed(view, limit):
        return Outcome("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    most = view.spec.get("maxFailedIndexes")
    if most is not None and len(view.failed_indexes) > most:
        return Outcome(
            "Failed", "MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes"
        )
    deadline = view.spec.get("activeDeadlineSeconds")
    if deadline is not None and seconds_active is not None and seconds_active >= deadline:
        return Outcome("Failed", "DeadlineExceeded", "Job was active longer than specified deadline")
    if view.failed_indexes and len(view.failed_indexes | view.completed_indexes) == view.completions:
        return Outcome("Failed", "FailedIndexes", "Job has failed indexes")
    return None


def _restarts_exceed(view: JobView, limit: int) -> bool:
    """With restartPolicy OnFailure the restarts of containers count towards backoffLimit."""
    if view.spec["template"]["spec"].get("restartPolicy") != "OnFailure":
        return False
    restarts = sum(
        status.get("restartCount", 0)
        for pod in view.pods
        if phase(pod) in ("Running", "Pending")
        for status in (pod.get("status") or {}).get("containerStatuses") or []
    )
    return restarts > 0 and restarts >= limit


def _success(view: JobView) -> Outcome | None:
    reached = Outcome("Complete", "CompletionsReached", "Reached expected number of succeeded pods")
    if rule := _success_rule(view):
        return Outcome("Complete", "SuccessPolicy", f"Matched rules at index {rule - 1}")
    if view.completions is None:
        return reached if view.succeeded > 0 and not view.active else None
    return reached if view.succeeded >= view.completions else None


def _success_rule(view: JobView) -> int:
    """Number (from 1) of the successPolicy rule that is met, 0 for none (KEP-3998)."""
    for number, rule in enumerate((view.spec.get("successPolicy") or {}).get("rules") or [], 1):
        listed = rule.get("succeededIndexes")
        wanted = parse_indexes(listed) if listed else set(range(view.completions or 0))
        needed = rule.get("succeededCount", len(wanted))
        if len(wanted & view.completed_indexes) >= needed:
            return number
    return 0


def missing(view: JobView) -> tuple[list[int | None], list[Object]]:
    """Pods to create (their indexes, None without one) and active pods to delete."""
    if view.indexed:
        return _missing_indexes(view)
    wanted = view.parallelism
    if view.completions is not None:
        wanted = min(wanted, view.completions - view.succeeded)
    elif view.succeeded:
        wanted = min(wanted, len(view.active))
    occupied = len(view.active) + (len(view.terminating) if view.replaces_only_failed else 0)
    excess = sorted(view.active, key=is_ready)[: max(0, len(view.active) - wanted)]
    return [None] * max(0, wanted - occupied), excess


def _missing_indexes(view: JobView) -> tuple[list[int | None], list[Object]]:
    done = view.completed_indexes | view.failed_indexes
    open_indexes = [index for index in range(view.completions or 0) if index not in done]
    taken: dict[int, Object] = {}
    excess = []
    for pod in view.active:
        index = pod_index(pod)
        if index is None or index in taken or index not in open_indexes or len(taken) >= view.parallelism:
            excess.append(pod)
        else:
            taken[index] = pod
    waiting = {pod_index(pod) for pod in view.terminating} if view.replaces_only_failed else set()
    room = view.parallelism - len(taken) - len(waiting & set(open_indexes))
    free: list[int | None] = [index for index in open_indexes if index not in taken and index not in waiting]
    return free[: max(0, room)], excess
