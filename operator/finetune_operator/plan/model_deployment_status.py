"""The status of a ModelDeployment."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from finetune_operator.plan.conditions import with_condition
from finetune_operator.plan.model_deployment_objects import selector
from finetune_operator.plan.model_deployment_rollout import Rollout
from finetune_operator.plan.model_deployment_versions import MAX_KEPT, Problem
from finetune_operator.plan.timestamps import rfc3339

Verdict = tuple[bool | None, str, str]
"""Status, reason and message of a condition."""


@dataclass(frozen=True)
class VersionState:
    """What is remembered from one reconcile to the next."""

    stable: str | None = None
    failed: tuple[str, ...] = ()
    pinned: str | None = None
    history: tuple[dict[str, str], ...] = field(default=())

    @classmethod
    def of(cls, status: dict[str, Any]) -> "VersionState":
        return cls(
            status.get("stable"),
            tuple(status.get("failedVersions") or ()),
            status.get("pinned"),
            tuple(status.get("history") or ()),
        )

    def wire(self) -> dict[str, Any]:
        """Absent instead of empty, as the API server stores it."""
        content = {
            "stable": self.stable,
            "failedVersions": list(self.failed[-MAX_KEPT:]) or None,
            "pinned": self.pinned,
            "history": list(self.history[-MAX_KEPT:]) or None,
        }
        return {name: value for name, value in content.items() if value is not None}


@dataclass(frozen=True)
class Situation:
    """Everything that the conditions tell."""

    state: VersionState
    candidate: str | None
    rollout: Rollout
    problem: Problem | None = None
    rolled_back: str | None = None
    """A newer version that failed, why, and what serves instead."""
    settled: bool = False
    """Nothing is left to apply."""


def deployment_status(resource: dict[str, Any], situation: Situation, now: datetime) -> dict[str, Any]:
    """The whole status."""
    metadata, rollout = resource["metadata"], situation.rollout
    generation = metadata.get("generation", 0)
    conditions = resource.get("status", {}).get("conditions")
    for kind, verdict in _verdicts(situation).items():
        conditions = with_condition(conditions, kind, *verdict, now=rfc3339(now), generation=generation)
    status = {
        "observedGeneration": generation,
        **situation.state.wire(),
        "replicas": rollout.replicas,
        "readyReplicas": rollout.ready,
        "available": f"{rollout.available}/{_wanted(resource)}",
        "selector": selector(metadata["name"]),
        "url": f"http://{metadata['name']}.{metadata['namespace']}.svc",
        "conditions": conditions,
    }
    return status | ({"candidate": situation.candidate} if situation.candidate else {})


def _wanted(resource: dict[str, Any]) -> int:
    replicas = (resource.get("spec") or {}).get("replicas", 1)
    return replicas if isinstance(replicas, int) else 0


def _verdicts(situation: Situation) -> dict[str, Verdict]:
    available = _available(situation.rollout)
    progressing = _progressing(situation)
    degraded = _degraded(situation)
    stalled = _stalled(situation)
    reconciling = progressing[0] and not stalled[0]
    waiting = situation.problem is not None and not situation.problem.stalled
    ready = bool(available[0]) and not progressing[0] and not stalled[0] and situation.problem is None
    because = next(v for v in (stalled, progressing, available) if v is available or v[0])
    return {
        "Available": available,
        "Progressing": progressing,
        "Degraded": degraded,
        "Ready": (ready, "Serving", _serving(situation)) if ready else (False, because[1], because[2]),
        "Reconciling": (bool(reconciling or waiting), progressing[1], progressing[2]),
        "Stalled": stalled,
    }


def _serving(situation: Situation) -> str:
    pods = "1 pod" if situation.rollout.available == 1 else f"{situation.rollout.available} pods"
    serves = f"{situation.state.stable or situation.candidate} serves with {pods}"
    return f"{serves}; rolled back: {situation.rolled_back}" if situation.rolled_back else serves


def _available(rollout: Rollout) -> Verdict:
    if rollout.version is None:
        return False, "NotDeployed", "no version has been deployed"
    if rollout.desired == 0:
        return True, "ScaledToZero", "spec.replicas is 0"
    text = f"{rollout.available} of {rollout.desired} pods are available"
    # During a rollout old and new pods count together: maxUnavailable 0 keeps the sum at the desired number.
    return (True, "PodsAvailable", text) if rollout.available >= rollout.desired else (False, "PodsMissing", text)


def _progressing(situation: Situation) -> Verdict:
    rollout, problem = situation.rollout, situation.problem
    if problem:
        return (not problem.stalled, problem.reason, problem.message)
    if situation.candidate:
        text = f"{situation.candidate}: {rollout.updated} of {rollout.desired} pods are updated"
        return True, "RollingOut", f"{text}; {rollout.waiting}" if rollout.waiting else text
    if not situation.settled or not rollout.complete:
        return True, "Updating", f"{rollout.available} of {rollout.desired} pods are available"
    return False, "Complete", f"{situation.state.stable} is on every pod"


def _degraded(situation: Situation) -> Verdict:
    rollout = situation.rollout
    if situation.rolled_back:
        return True, "RolledBack", f"{situation.rolled_back}; {situation.state.stable or 'an older version'} serves"
    if rollout.failure:
        return True, "RolloutFailed", rollout.failure
    if rollout.version and rollout.available < rollout.desired and not situation.candidate:
        return True, "PodsMissing", f"{rollout.available} of {rollout.desired} pods are available"
    return False, "Healthy", ""


def _stalled(situation: Situation) -> Verdict:
    if situation.problem and situation.problem.stalled:
        return True, situation.problem.reason, situation.problem.message
    if situation.rollout.failure and situation.settled:
        return True, "RolloutFailed", situation.rollout.failure
    return False, "NotStalled", ""
