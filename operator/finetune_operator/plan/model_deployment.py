"""What to do for a ModelDeployment: a pure function of what is written and what is seen.

One Deployment serves one version at a time. A new version replaces the pod template; the Deployment controller rolls
it out without going below the ready count. When it does not become ready, the template of the stable version is put
back: its pods are still there.
"""

import re
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from pydantic import ValidationError

from finetune_api.errors import field_errors
from finetune_api.model_deployment import ModelDeploymentSpec
from finetune_api.names import ANNOTATION_DESIRED_HASH
from finetune_operator.plan.model_deployment_objects import serving_objects
from finetune_operator.plan.model_deployment_rollout import Rollout, observe_rollout
from finetune_operator.plan.model_deployment_status import Situation, VersionState, deployment_status
from finetune_operator.plan.model_deployment_versions import (
    Choice,
    Problem,
    Records,
    choose,
    newer_failures,
    remember,
    served_model,
    version_records,
)
from finetune_operator.plan.strategic_merge import MergeError
from finetune_operator.plan.timestamps import rfc3339

Object = dict[str, Any]
SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class Observed:
    """What the cluster shows."""

    versions: list[Object]
    """Every ModelVersion of the namespace."""
    deployment: Object | None = None
    service: Object | None = None
    pods: list[Object] = field(default_factory=list)


@dataclass(frozen=True)
class Event:
    """Something that people should know."""

    type: Literal["Normal", "Warning"]
    reason: str
    note: str


@dataclass(frozen=True)
class Plan:
    """What should be. The status goes first: a rollback that is not remembered would be tried again."""

    status: Object
    objects: list[Object] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)


def plan_model_deployment(resource: Object, observed: Observed, now: datetime, default_image: str) -> Plan:
    """The next step for one ModelDeployment."""
    state = VersionState.of(resource.get("status") or {})
    rollout = observe_rollout(observed.deployment, observed.pods)
    spec = _valid_spec(resource, observed)
    if isinstance(spec, Problem):
        return _stay(resource, state, rollout, spec, now)
    records = version_records(observed.versions, observed.deployment)
    retried = state.pinned == spec.version
    state = _with_pin(state, spec)
    choice = choose(spec, records, state.stable, state.failed, retried=retried)
    state, events = _judge(spec, records, state, rollout, choice, now)
    choice = choose(spec, records, state.stable, state.failed, retried=True)
    return _proceed(resource, observed, _Turn(spec, records, state, rollout, choice, events), now, default_image)


@dataclass(frozen=True)
class _Turn:
    """The decisions of one reconcile."""

    spec: ModelDeploymentSpec
    records: Records
    state: VersionState
    rollout: Rollout
    choice: Choice
    events: list[Event]


def _valid_spec(resource: Object, observed: Observed) -> ModelDeploymentSpec | Problem:
    name, uid = resource["metadata"]["name"], resource["metadata"]["uid"]
    if not SERVICE_NAME.fullmatch(name):
        return Problem(
            "InvalidName",
            f"metadata.name: {name!r} cannot name a Service; use at most 63 lower-case letters, digits and dashes, "
            "a letter first",
        )
    for item in (observed.deployment, observed.service):
        if item and not _owned_by(item, uid):
            return Problem("NameTaken", f"{item['kind']} {name!r} exists and is not ours; delete it or rename this")
    try:
        return ModelDeploymentSpec.model_validate(resource.get("spec"))
    except ValidationError as error:
        return Problem("InvalidSpec", f"spec.{field_errors(error)[0]}")


def _owned_by(item: Object, uid: str) -> bool:
    return any(owner.get("uid") == uid for owner in item["metadata"].get("ownerReferences") or ())


def _stay(resource: Object, state: VersionState, rollout: Rollout, problem: Problem, now: datetime) -> Plan:
    situation = Situation(state, None, rollout, problem)
    return Plan(deployment_status(resource, situation, now), [], _problem_events(resource, problem))


def _problem_events(resource: Object, problem: Problem | None) -> list[Event]:
    """One event when a problem appears, none while it lasts."""
    if problem is None:
        return []
    conditions = resource.get("status", {}).get("conditions") or ()
    if any(c["type"] == "Progressing" and c.get("message") == problem.message for c in conditions):
        return []
    return [Event("Warning" if problem.stalled else "Normal", problem.reason, problem.message)]


def _with_pin(state: VersionState, spec: ModelDeploymentSpec) -> VersionState:
    """A version that was just pinned gets another chance."""
    if state.pinned == spec.version:
        return state
    failed = tuple(name for name in state.failed if name != spec.version)
    return replace(state, pinned=spec.version, failed=failed)


def _judge(
    spec: ModelDeploymentSpec, records: Records, state: VersionState, rollout: Rollout, choice: Choice, now: datetime
) -> tuple[VersionState, list[Event]]:
    """Promote what proved itself, give up what failed and can be replaced."""
    version = rollout.version
    if version is None or version == state.stable or choice.target is None or choice.target.name != version:
        return state, []
    if rollout.proven:
        return _promoted(state, version, now)
    if rollout.failure is None:
        return state, []
    failed = (*state.failed, version)
    fallback = choose(spec, records, state.stable, failed, retried=True).target
    if fallback is None:
        return state, []
    return _rolled_back(state, version, fallback.name, rollout.failure, now)


def _promoted(state: VersionState, version: str, now: datetime) -> tuple[VersionState, list[Event]]:
    change = {"version": version, "outcome": "Promoted", "reason": "", "time": rfc3339(now)}
    note = f"{version} serves now" + (f", instead of {state.stable}" if state.stable else "")
    promoted = replace(state, stable=version, history=(*state.history, change))
    return promoted, [Event("Normal", "Promoted", note)]


def _rolled_back(
    state: VersionState, version: str, fallback: str, failure: str, now: datetime
) -> tuple[VersionState, list[Event]]:
    change = {"version": version, "outcome": "RolledBack", "reason": failure, "time": rfc3339(now)}
    back = replace(state, failed=(*state.failed, version), history=(*state.history, change))
    return back, [Event("Warning", "RolledBack", f"{version} {failure}; {fallback} serves on")]


def _proceed(resource: Object, observed: Observed, turn: _Turn, now: datetime, default_image: str) -> Plan:
    target, problem = turn.choice.target, turn.choice.problem
    objects: list[Object] = []
    if target:
        made = _objects(resource, turn, default_image)
        if isinstance(made, Problem):
            problem = problem or made
        else:
            objects = made
    candidate = target.name if target and objects and target.name != turn.state.stable else None
    settled = bool(objects) and _applied(objects, observed)
    situation = Situation(
        turn.state,
        candidate,
        turn.rollout if settled or turn.rollout.version == getattr(target, "name", None) else _outdated(turn.rollout),
        problem,
        _rolled_back_text(turn),
        settled,
    )
    events = [*turn.events, *_rollout_events(resource, candidate, target), *_problem_events(resource, problem)]
    return Plan(deployment_status(resource, situation, now), objects, events)


def _objects(resource: Object, turn: _Turn, default_image: str) -> list[Object] | Problem:
    assert turn.choice.target
    model = served_model(turn.choice.target, turn.spec, turn.records)
    if isinstance(model, Problem):
        return model
    stable = turn.records.get(turn.state.stable or "")
    try:
        return serving_objects(resource, turn.spec, model, default_image, remember([stable, turn.choice.target]))
    except MergeError as error:
        return Problem("InvalidSpec", f"spec.podTemplate.{error}")


def _applied(objects: list[Object], observed: Observed) -> bool:
    seen = {item["kind"]: item for item in (observed.deployment, observed.service) if item}
    return all(_hash(item) == _hash(seen.get(item["kind"])) for item in objects)


def _hash(item: Object | None) -> str | None:
    annotations: dict[str, str] = (item or {}).get("metadata", {}).get("annotations") or {}
    return annotations.get(ANNOTATION_DESIRED_HASH)


def _outdated(rollout: Rollout) -> Rollout:
    """The pods still count; what the Deployment says about another version's rollout does not."""
    return replace(rollout, observed=False, updated=0, deadline_exceeded=False, crash=None, waiting=None)


def _rolled_back_text(turn: _Turn) -> str | None:
    model, state = turn.spec.model_name, turn.state
    failures = newer_failures(turn.records, state.stable, state.failed, model)
    if turn.spec.version:
        failures = [name for name in failures if name == turn.spec.version]
    if not failures:
        return None
    reasons = [change.get("reason", "") for change in state.history if change["version"] == failures[-1]]
    return f"{failures[-1]} {reasons[-1] if reasons else 'failed'}; {state.stable or 'an older version'} serves"


def _rollout_events(resource: Object, candidate: str | None, target: Any) -> list[Event]:
    before = (resource.get("status") or {}).get("candidate")
    if candidate is None or candidate == before:
        return []
    return [Event("Normal", "RollingOut", f"rolling out {candidate} ({target.spec.artifact.uri})")]
