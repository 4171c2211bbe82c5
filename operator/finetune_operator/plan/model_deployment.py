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

from finetune_api.errors import field_errors, told
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
from finetune_operator.plan.named_objects import MOST_SECRETS, Named, secret
from finetune_operator.plan.pod_shape import template_errors
from finetune_operator.plan.reasons import Reason
from finetune_operator.plan.secret_references import Reference, not_found_words
from finetune_operator.plan.serving_secrets import serving_secrets
from finetune_operator.plan.size_limits import too_large
from finetune_operator.plan.strategic_merge import MergeError
from finetune_operator.plan.timestamps import rfc3339
from finetune_operator.serving.builtin import BuiltinServer

Object = dict[str, Any]
SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class Observed:
    """What the cluster shows."""

    versions: list[Object]
    """ModelVersions that are named anywhere, the newest usable ones of the model (`CHOICES`), and their bases."""
    deployment: Object | None = None
    service: Object | None = None
    pods: list[Object] = field(default_factory=list)
    absent: frozenset[Named] = frozenset()
    """What was looked for by its name and is not there."""


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
    secrets: tuple[str, ...] = ()
    """What the pods of a version that is about to be rolled out need: worth a look beforehand."""


def plan_model_deployment(
    resource: Object, observed: Observed, now: datetime, default_image: str, refused: str = ""
) -> Plan:
    """The next step for one ModelDeployment. `refused`: why the API server did not take these objects before."""
    state = VersionState.of(resource.get("status") or {})
    rollout = observe_rollout(observed.deployment, observed.pods)
    spec = _valid_spec(resource, observed)
    if isinstance(spec, Problem):
        return _stay(resource, state, rollout, spec, now)
    state = _with_pin(state, spec)
    turn = _turn(resource, observed, spec, state, rollout, default_image)
    state, events = _judge(turn, now)
    if state != turn.state:
        turn = _turn(resource, observed, spec, state, rollout, default_image)
    if refused:
        turn = replace(turn, problem=Problem("Refused", refused))
    return _conclude(resource, turn, events, now)


@dataclass(frozen=True)
class _Turn:
    """What is known in one reconcile, and what follows from it."""

    spec: ModelDeploymentSpec
    records: Records
    state: VersionState
    rollout: Rollout
    choice: Choice
    objects: list[Object]
    problem: Problem | None
    secrets: list[Reference]
    """Of a version that is about to be rolled out."""

    @property
    def candidate(self) -> str | None:
        """The version being rolled out."""
        target = self.choice.target
        return target.name if target and self.objects and target.name != self.state.stable else None

    @property
    def settled(self) -> bool:
        """The Deployment has the wanted template and size: what it says is about them."""
        deployment = next((item for item in self.objects if item["kind"] == "Deployment"), None)
        if deployment is None:
            return False
        spec = deployment["spec"]
        wanted = spec["template"]["metadata"]["annotations"][ANNOTATION_DESIRED_HASH], spec["replicas"]
        return bool(wanted == (self.rollout.template_hash, self.rollout.desired))


def _turn(
    resource: Object,
    observed: Observed,
    spec: ModelDeploymentSpec,
    state: VersionState,
    rollout: Rollout,
    default_image: str,
) -> _Turn:
    records = version_records(observed.versions, observed.deployment)
    choice = choose(spec, records, state.stable, state.failed)
    objects, problem = _objects(resource, spec, records, state, choice, default_image)
    secrets = _new_secrets(spec, state, choice, objects, rollout)
    if missing := [one for one in secrets if secret(one[1]) in observed.absent]:
        objects, problem = [], _not_found(missing, resource)
    return _Turn(spec, records, state, rollout, choice, objects, choice.problem or problem, secrets)


def _new_secrets(
    spec: ModelDeploymentSpec, state: VersionState, choice: Choice, objects: list[Object], rollout: Rollout
) -> list[Reference]:
    """A version that is served, or being rolled out, is not held up: its pods may have what they need."""
    template = next((item["spec"]["template"] for item in objects if item["kind"] == "Deployment"), None)
    if template is None or choice.target is None or choice.target.name == state.stable:
        return []
    if template["metadata"]["annotations"][ANNOTATION_DESIRED_HASH] == rollout.template_hash:
        return []
    return serving_secrets(spec, choice.target, template)[:MOST_SECRETS]


def _not_found(missing: list[Reference], resource: Object) -> Problem:
    namespace = resource["metadata"]["namespace"]
    told = [f"{field}: {not_found_words(name, namespace)}" for field, name in missing]
    return Problem(Reason.SECRET_NOT_FOUND, "\n".join(told), stalled=False)


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
    if problem := too_large(resource.get("spec")):
        return Problem("InvalidSpec", f"spec: {problem}")
    try:
        spec = ModelDeploymentSpec.model_validate(resource.get("spec"))
    except ValidationError as error:
        return Problem(
            "InvalidSpec", "\n".join(told([f"spec.{one}" for one in field_errors(error, ModelDeploymentSpec)]))
        )
    templates = {"spec.podTemplate": spec.pod_template}
    wrong = told(list(template_errors(templates, BuiltinServer.container_name)))
    return Problem("InvalidSpec", "\n".join(wrong)) if wrong else spec


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


def _judge(turn: _Turn, now: datetime) -> tuple[VersionState, list[Event]]:
    """Promote what proved itself, give up what failed and can be replaced."""
    state, rollout = turn.state, turn.rollout
    if turn.candidate is None or not turn.settled:
        return state, []
    if rollout.proven:
        return _promoted(state, turn.candidate, now)
    if rollout.failure is None:
        return state, []
    failed = (*state.failed, turn.candidate)
    fallback = choose(turn.spec, turn.records, state.stable, failed).target
    if fallback is None:
        return state, []
    return _rolled_back(state, turn.candidate, fallback.name, rollout.failure, now)


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
    return back, [Event("Warning", "RolledBack", f"{version}: {failure}; {fallback} serves on")]


def _conclude(resource: Object, turn: _Turn, events: list[Event], now: datetime) -> Plan:
    situation = Situation(
        state=turn.state,
        candidate=turn.candidate,
        rollout=turn.rollout if turn.settled else _outdated(turn.rollout),
        problem=turn.problem,
        rolled_back=_rolled_back_text(turn),
        settled=turn.settled,
    )
    events = [*events, *_rollout_events(resource, turn), *_problem_events(resource, turn.problem)]
    status = deployment_status(resource, situation, now)
    return Plan(status, turn.objects, events, tuple(name for _, name in turn.secrets))


def _objects(
    resource: Object,
    spec: ModelDeploymentSpec,
    records: Records,
    state: VersionState,
    choice: Choice,
    default_image: str,
) -> tuple[list[Object], Problem | None]:
    if choice.target is None:
        return [], None
    model = served_model(choice.target, spec, records)
    if isinstance(model, Problem):
        return [], model
    kept = remember([records.get(state.stable or ""), choice.target])
    try:
        return serving_objects(resource, spec, model, default_image, kept), None
    except MergeError as error:
        return [], Problem("InvalidSpec", f"spec.podTemplate.{error}")


def _outdated(rollout: Rollout) -> Rollout:
    """The pods still count; what the Deployment says about its old template does not."""
    return replace(rollout, observed=False, updated=0, deadline_exceeded=False, crash=None, waiting=None)


def _rolled_back_text(turn: _Turn) -> str | None:
    model, state = turn.spec.model_name, turn.state
    failures = newer_failures(turn.records, state.stable, state.failed, model)
    if turn.spec.version:
        failures = [name for name in failures if name == turn.spec.version]
    if not failures:
        return None
    reasons = [change.get("reason", "") for change in state.history if change["version"] == failures[-1]]
    return f"{failures[-1]}: {reasons[-1] if reasons else 'failed'}"


def _rollout_events(resource: Object, turn: _Turn) -> list[Event]:
    before = (resource.get("status") or {}).get("candidate")
    if turn.candidate is None or turn.candidate == before or turn.choice.target is None:
        return []
    return [Event("Normal", "RollingOut", f"rolling out {turn.candidate} ({turn.choice.target.spec.artifact.uri})")]
