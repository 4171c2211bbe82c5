"""What the cluster shows of a job's attempts, as plain facts."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from finetune_api.masking import mask
from finetune_api.names import LABEL_ATTEMPT
from finetune_api.reports import TerminationMessage, TrainingResult
from finetune_operator.plan.conditions import find_condition, is_true
from finetune_operator.plan.pod_shape import CONTAINER
from finetune_operator.plan.timestamps import parse_time

Resource = dict[str, Any]
POD_CONDITIONS = ("PodScheduled", "DisruptionTarget")
"""The ones that are read here."""
NO_ATTEMPT = 0
"""Instead of an attempt's number: pods that are no gang, but hold room for a larger one, or look while one waits."""
INDEX_ANNOTATION = "batch.kubernetes.io/job-completion-index"


@dataclass(frozen=True)
class PodFacts:
    """One pod of a gang."""

    name: str
    uid: str
    rank: int
    node: str | None
    phase: str
    deleting_at: datetime | None
    """When its grace period ends, once its deletion was asked for."""
    running: bool
    waiting_reason: str
    """Why it does not run yet: Unschedulable, ImagePullBackOff …; empty when nothing is wrong."""
    waiting_message: str
    exit_code: int | None
    finished_at: datetime | None
    message: TerminationMessage | None
    """What the trainer said at its end."""
    log_tail: str
    disruption: str
    """Reason of the DisruptionTarget condition, or the pod's own reason such as Evicted."""
    disruption_message: str
    ended_reason: str = ""
    """Of the container: Error, OOMKilled, StartError, ContainerStatusUnknown …"""
    container: str = CONTAINER
    """Whose end this is: the trainer's, or else of an init container or sidecar that failed the pod."""
    status_reason: str = ""
    """Of the pod: Evicted, UnexpectedAdmissionError, DeadlineExceeded …"""
    status_message: str = ""
    scheduled_at: datetime | None = None
    """When a node was found for it."""
    grace_seconds: int | None = None
    """That its deletion gives it."""
    done_at: datetime | None = None
    """When its trainer ended well, whatever else runs in it or has failed it."""
    result: TrainingResult | None = None
    """What its trainer said that it made."""

    @property
    def failed(self) -> bool:
        return self.phase == "Failed" or (self.exit_code or 0) != 0

    @property
    def ended(self) -> bool:
        return self.phase in ("Succeeded", "Failed")

    @property
    def done(self) -> bool:
        """Its trainer has ended well, whatever else runs on in it."""
        return self.container == CONTAINER and self.exit_code == 0


@dataclass(frozen=True)
class AttemptFacts:
    """The Indexed Job of one attempt, and its pods."""

    number: int
    job: Resource | None = None
    pods: tuple[PodFacts, ...] = ()

    @property
    def gone(self) -> bool:
        """Nothing is left, so the next gang may start."""
        return self.job is None and not self.pods

    @property
    def deleting(self) -> bool:
        return bool(self.job and self.job["metadata"].get("deletionTimestamp"))

    @property
    def stopping(self) -> bool:
        """Its end was asked for."""
        return self.deleting or any(pod.deleting_at for pod in self.pods)

    @property
    def complete(self) -> bool:
        return self._is("Complete")

    @property
    def failed(self) -> bool:
        return self._is("Failed")

    @property
    def failing(self) -> bool:
        """The Job controller has given it up; its pods may still be stopping."""
        return self._is("FailureTarget") or self.failed

    @property
    def ended_by_itself(self) -> bool:
        """No pod runs and one has failed: with `backoffLimit: 0` the Job controller will give it up, if it has not."""
        size = ((self.job or {}).get("spec") or {}).get("completions") or 1
        ended = all(pod.ended and pod.deleting_at is None for pod in self.pods)
        return len(self.pods) >= size and ended and any(pod.failed for pod in self.pods)

    @property
    def failure(self) -> str:
        """The Job controller's own words."""
        conditions = (self.job or {}).get("status", {}).get("conditions")
        found = find_condition(conditions, "Failed") or find_condition(conditions, "FailureTarget") or {}
        return mask(f"{found.get('reason', '')}: {found.get('message', '')}".strip(": "))

    @property
    def over_since(self) -> datetime | None:
        """When the Job controller saw the end of the gang."""
        conditions = (self.job or {}).get("status", {}).get("conditions")
        found = (find_condition(conditions, kind) for kind in ("Complete", "FailureTarget", "Failed"))
        return next((parse_time(one.get("lastTransitionTime")) for one in found if one), None)

    @property
    def pods_behind(self) -> bool:
        """The Job's end is seen and not that of its pods, which another watch tells of."""
        if self.complete:
            return not any(pod.rank == 0 and pod.ended for pod in self.pods)
        return self.failing and bool(self.pods) and not self._pods_show_an_end

    @property
    def end_shown(self) -> bool:
        """Whether anything that is there speaks of the gang's end; what is missing may only not be seen yet."""
        if self.complete:
            return not self.pods_behind
        return self.deleting or self._pods_show_an_end

    @property
    def _pods_show_an_end(self) -> bool:
        ends = (pod.ended or pod.exit_code is not None or pod.disruption or pod.deleting_at for pod in self.pods)
        return any(ends)

    def running(self, nodes: int) -> bool:
        """Every pod of the gang runs, or has run to its end."""
        return sum(pod.running or pod.done for pod in self.pods) >= nodes

    def done_since(self, nodes: int) -> datetime | None:
        """When the last trainer of the gang ended well; None until all have."""
        times = [pod.done_at for pod in self.pods if pod.done_at]
        return max(times) if times and len(times) >= nodes else None

    @property
    def waiting_since(self) -> datetime | None:
        """When the Job was let go: a suspended Job waits in its queue, not for its pods."""
        if self.job is None or self._is("Suspended") or (self.job.get("spec") or {}).get("suspend"):
            return None
        began = (self.job.get("status") or {}).get("startTime") or self.job["metadata"].get("creationTimestamp")
        return parse_time(began)

    def _is(self, condition: str) -> bool:
        return is_true((self.job or {}).get("status", {}).get("conditions"), condition)


def observe_attempts(jobs: list[Resource], pods: list[Resource]) -> dict[int, AttemptFacts]:
    """Facts by attempt number, of the Jobs and pods that belong to one FineTuneJob."""
    numbers = {_number(item) for item in (*jobs, *pods)}
    return {number: observe_attempt(number, jobs, pods) for number in sorted(numbers - {NO_ATTEMPT})}


def observe_attempt(number: int, jobs: list[Resource], pods: list[Resource]) -> AttemptFacts:
    """Facts of one attempt, or of what has no number."""
    return AttemptFacts(
        number=number,
        job=next((job for job in jobs if _number(job) == number), None),
        pods=tuple(
            sorted(
                (pod_facts(pod) for pod in pods if _number(pod) == number),
                key=lambda pod: (pod.rank, pod.name),
            )
        ),
    )


def pod_facts(pod: Resource) -> PodFacts:
    """What one pod's status says."""
    metadata, status = pod["metadata"], pod.get("status", {})
    name, ended = _end(status)
    done_at, result = _done(status)
    waiting_reason, waiting_message = _waiting(status)
    disruption, disruption_message = _disruption(status)
    text = ended.get("message") or ""
    message = parse_termination(text)
    scheduled = find_condition(status.get("conditions"), "PodScheduled") or {}
    return PodFacts(
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        rank=int(metadata.get("annotations", {}).get(INDEX_ANNOTATION, -1)),
        node=pod.get("spec", {}).get("nodeName"),
        phase=status.get("phase", "Pending"),
        deleting_at=parse_time(metadata.get("deletionTimestamp")),
        running=status.get("phase") == "Running" and "running" in _state(status, CONTAINER),
        waiting_reason=waiting_reason,
        waiting_message=mask(waiting_message),
        exit_code=ended.get("exitCode"),
        finished_at=parse_time(ended.get("finishedAt")),
        message=message,
        log_tail=(message.message if message else mask(text)).strip(),
        disruption=disruption,
        disruption_message=mask(disruption_message),
        ended_reason=ended.get("reason") or "",
        container=name,
        status_reason=status.get("reason") or "",
        status_message=mask(status.get("message") or ""),
        grace_seconds=metadata.get("deletionGracePeriodSeconds"),
        scheduled_at=parse_time(scheduled.get("lastTransitionTime")) if scheduled.get("status") == "True" else None,
        done_at=done_at,
        result=result,
    )


def parse_termination(text: str) -> TerminationMessage | None:
    """The trainer's last word; None when the text is something else, such as the end of a log."""
    found = _read_termination(text.strip())
    return found if isinstance(found, TerminationMessage) else None


def misunderstood(text: str) -> str:
    """What is wrong with JSON that is no last word of a trainer's; empty when it is one, or no JSON."""
    found = _read_termination(text.strip())
    if not isinstance(found, ValidationError):
        return ""
    first = found.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"


def _read_termination(line: str) -> TerminationMessage | ValidationError | None:
    if not line.startswith("{"):
        return None
    try:
        return TerminationMessage.model_validate_json(line)
    except ValidationError as error:
        return error


def _number(item: Resource) -> int:
    return int(item["metadata"].get("labels", {}).get(LABEL_ATTEMPT, 0))


def _containers(status: Resource) -> list[Resource]:
    """In the order in which they start."""
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def _state(status: Resource, name: str) -> Resource:
    return next((one.get("state") or {} for one in _containers(status) if one.get("name") == name), {})


def _end(status: Resource) -> tuple[str, Resource]:
    """The trainer's, unless that is fine and another container failed the pod."""
    own: Resource = _state(status, CONTAINER).get("terminated") or {}
    if own.get("exitCode") or status.get("phase") != "Failed":
        return CONTAINER, own
    for one in _containers(status):
        ended = (one.get("state") or {}).get("terminated") or {}
        if ended.get("exitCode"):
            return one["name"], ended
    return CONTAINER, own


def _done(status: Resource) -> tuple[datetime | None, TrainingResult | None]:
    """When the trainer ended well, and what it made."""
    own: Resource = _state(status, CONTAINER).get("terminated") or {}
    if own.get("exitCode") != 0:
        return None, None
    words = parse_termination(own.get("message") or "")
    return parse_time(own.get("finishedAt")), words.result if words else None


def _waiting(status: Resource) -> tuple[str, str]:
    scheduled = find_condition(status.get("conditions"), "PodScheduled")
    if scheduled and scheduled.get("status") == "False":
        return scheduled.get("reason", "Unschedulable"), scheduled.get("message", "")
    for one in _containers(status):
        waiting = (one.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") not in ("", None, "ContainerCreating", "PodInitializing"):
            return waiting["reason"], waiting.get("message", "")
    return "", ""


def _disruption(status: Resource) -> tuple[str, str]:
    target = find_condition(status.get("conditions"), "DisruptionTarget")
    if target and target.get("status") == "True":
        return target.get("reason", ""), target.get("message", "")
    if status.get("reason") in ("Evicted", "NodeLost", "NodeShutdown", "Terminated", "Preempting"):
        return status["reason"], status.get("message", "")
    return "", ""
