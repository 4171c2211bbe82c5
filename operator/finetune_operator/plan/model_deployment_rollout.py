"""How the Deployment's rollout stands, as plain facts."""

from dataclasses import dataclass
from typing import Any

from finetune_api.names import ANNOTATION_DESIRED_HASH, LABEL_VERSION
from finetune_operator.plan.conditions import find_condition

CRASH_RESTARTS = 3
"""So many restarts without ever being ready are a crash loop: waiting for the deadline would change nothing."""
ANNOTATION_VERSION = LABEL_VERSION
"""On the pod template: the full name, which a label may not hold."""


@dataclass(frozen=True)
class Rollout:
    """What the Deployment controller and the pods say about the current pod template."""

    version: str | None = None
    """The version that the pod template serves; None: there is no Deployment."""
    template_hash: str | None = None
    """Of the pod template that the Deployment has now."""
    desired: int = 0
    replicas: int = 0
    updated: int = 0
    ready: int = 0
    available: int = 0
    observed: bool = False
    """Whether the Deployment controller has seen the newest spec: until then its numbers are of the past."""
    deadline_exceeded: bool = False
    crash: str | None = None
    """Why a pod of this version ended again and again."""
    waiting: str | None = None
    """Why a pod of this version does not run or is not ready."""

    @property
    def complete(self) -> bool:
        """Every pod is of this version, and ready."""
        return self.observed and self.updated == self.desired == self.replicas == self.available

    @property
    def proven(self) -> bool:
        """Complete with at least one pod: nothing is known of a version that was scaled to zero."""
        return self.complete and self.desired > 0

    @property
    def failure(self) -> str | None:
        """Why this version cannot serve; None while it still may."""
        if self.crash:
            return self.crash
        if self.deadline_exceeded:
            return f"not ready within progressDeadlineSeconds{f': {self.waiting}' if self.waiting else ''}"
        return None


def observe_rollout(deployment: dict[str, Any] | None, pods: list[dict[str, Any]]) -> Rollout:
    """Facts of a Deployment and the pods of its ModelDeployment."""
    if deployment is None:
        return Rollout()
    spec, status = deployment["spec"], deployment.get("status") or {}
    observed = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    progressing = find_condition(status.get("conditions"), "Progressing") or {}
    annotations = spec["template"]["metadata"].get("annotations") or {}
    template_hash = annotations.get(ANNOTATION_DESIRED_HASH)
    mine = [pod for pod in pods if _has_template(pod, template_hash)]
    return Rollout(
        version=annotations.get(ANNOTATION_VERSION),
        template_hash=template_hash,
        desired=spec.get("replicas", 1),
        replicas=status.get("replicas", 0),
        updated=status.get("updatedReplicas", 0),
        ready=status.get("readyReplicas", 0),
        available=status.get("availableReplicas", 0),
        observed=observed,
        deadline_exceeded=observed
        and progressing.get("status") == "False"
        and progressing.get("reason") == "ProgressDeadlineExceeded",
        crash=next((reason for pod in mine if (reason := _crash(pod))), None),
        waiting=next((reason for pod in mine if (reason := _waiting(pod))), None),
    )


def _has_template(pod: dict[str, Any], template_hash: str | None) -> bool:
    """Pods of an earlier template say nothing of this one, also when they serve the same version."""
    metadata = pod["metadata"]
    found = (metadata.get("annotations") or {}).get(ANNOTATION_DESIRED_HASH)
    return found is not None and found == template_hash and not metadata.get("deletionTimestamp")


def _crash(pod: dict[str, Any]) -> str | None:
    for container in (pod.get("status") or {}).get("containerStatuses") or ():
        if container.get("restartCount", 0) >= CRASH_RESTARTS and not container.get("ready"):
            return f"pod {pod['metadata']['name']} crashes: {_last_words(container) or 'no reason was given'}"
    return None


def _waiting(pod: dict[str, Any]) -> str | None:
    status = pod.get("status") or {}
    scheduled = find_condition(status.get("conditions"), "PodScheduled") or {}
    if scheduled.get("status") == "False":
        return f"pod {pod['metadata']['name']} is not scheduled: {scheduled.get('message', '')}"
    for container in status.get("containerStatuses") or ():
        waiting = container.get("state", {}).get("waiting") or {}
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            why = _last_words(container) or waiting.get("message", "")
            return f"pod {pod['metadata']['name']}: {waiting['reason']}: {why}"
    return None


def _last_words(container: dict[str, Any]) -> str:
    """The server's own line in the termination message, else the exit code; empty before it has ended once."""
    for state in ("state", "lastState"):
        ended = container.get(state, {}).get("terminated")
        if ended:
            return str(ended.get("message") or f"exit code {ended.get('exitCode')}").strip()
    return ""
