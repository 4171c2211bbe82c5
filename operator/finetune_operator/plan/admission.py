"""What an admission webhook answers, as a pure function of the request and of what the cluster holds.

A job that only lacks something that it refers to is let in with a warning: the reconciler waits for it.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel, ValidationError

from finetune_api.base import Resource as ResourceModel
from finetune_api.crds import CUSTOM_RESOURCES
from finetune_api.errors import field_of, told
from finetune_api.fine_tune_job import MUTABLE_AFTER_START, FineTuneJob
from finetune_api.model_deployment import ModelDeployment
from finetune_api.unknown import read
from finetune_operator.plan.conditions import is_true
from finetune_operator.plan.pod_shape import CONTAINER, template_errors
from finetune_operator.plan.references import Surroundings
from finetune_operator.plan.size_limits import too_large
from finetune_operator.plan.spec_change import changed_fields
from finetune_operator.plan.verdict import judge
from finetune_operator.serving.builtin import BuiltinServer

Resource = dict[str, Any]
CONTAINERS: dict[type[BaseModel], str] = {ModelDeployment: BuiltinServer.container_name}
MODELS: dict[str, type[ResourceModel]] = {resource.kind: resource.model for resource in CUSTOM_RESOURCES}


@dataclass(frozen=True)
class Decision:
    """Errors refuse the request; each begins with the path of its field."""

    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def response(self, kind: str, name: str) -> Resource:
        """The `response` of an AdmissionReview, less its uid."""
        answer: Resource = {"allowed": not self.errors}
        if self.warnings:
            answer["warnings"] = list(self.warnings)
        if self.errors:
            told = self.errors[0] if len(self.errors) == 1 else "".join(f"\n  {error}" for error in self.errors)
            answer["status"] = {
                "code": 422,
                "reason": "Invalid",
                "message": f'{kind} "{name}" is invalid: {told}',
                "details": {"kind": kind, "name": name, "causes": [_cause(error) for error in self.errors]},
            }
        return answer


def _cause(error: str) -> Resource:
    field = field_of(error)
    return {"reason": "FieldValueInvalid", "field": field, "message": error.removeprefix(field).lstrip(": ") or error}


class Knowledge(Protocol):
    """What the operator knows of a job besides the request."""

    def started(self, job: Resource) -> Resource | None:
        """The spec that it started with, as the first attempt's ConfigMap keeps it."""

    def around(self, job: Resource) -> Surroundings:
        """What a job, right in itself, refers to."""


def decide(request: Resource, known: Knowledge) -> Decision:
    """`request` is that of an AdmissionReview."""
    new, old = request.get("object"), request.get("oldObject")
    kind = request["kind"]["kind"]
    if not isinstance(new, dict) or kind not in MODELS or new.get("metadata", {}).get("deletionTimestamp"):
        return Decision()  # deletions, and the finalizers of what is being deleted, are nobody's business here
    if old is not None and old.get("spec") == new.get("spec"):
        return Decision()  # what is stored already must stay editable in its metadata
    if kind != "FineTuneJob" or not isinstance(new.get("spec"), dict):
        return Decision(tuple(errors_of(MODELS[kind], new)))
    job = new | {"metadata": new["metadata"] | {"namespace": request.get("namespace", "")}}
    if old is not None and (started := known.started(job) or _started_spec(old)) is not None:
        return _edit_after_start(started, old, job)
    name, namespace, spec = job["metadata"].get("name", ""), job["metadata"]["namespace"], job["spec"]
    if errors := judge(name, namespace, spec, Surroundings()).errors:
        return Decision(errors)  # what is wrong in itself: nothing can be looked up for it
    verdict = judge(name, namespace, spec, known.around(job))
    told = (*(one.message for one in verdict.missing), *verdict.warnings, *_finished_warning(old))
    return Decision(verdict.errors, told)


def _finished_warning(old: Resource | None) -> list[str]:
    conditions = ((old or {}).get("status") or {}).get("conditions")
    if not is_true(conditions, "Failed"):
        return []
    return ["this job has failed and never runs again, whatever is changed; create a new FineTuneJob"]


def _started_spec(old: Resource) -> Resource | None:
    """Of a job whose snapshot is not in the cache (any more): what it says itself."""
    return old["spec"] if (old.get("status") or {}).get("attempt") else None


def _edit_after_start(started: Resource, old: Resource, new: Resource) -> Decision:
    """Going back to what the job started with is always allowed."""
    if problem := too_large(new["spec"]):
        return Decision((f"spec: {problem}",))
    before_this = started if too_large(old["spec"]) else old["spec"]  # what came in without us cannot be compared
    fixed, stored, wanted = (_fixed_fields(spec) for spec in (started, before_this, new["spec"]))
    before = set(changed_fields(fixed, stored))
    edited = [path for path in changed_fields(fixed, wanted) if path not in before]
    rest = ", ".join(MUTABLE_AFTER_START)
    refused = [
        f"{path}: cannot change after the start; create a new FineTuneJob to train with the change. Only {rest} may "
        "change"
        for path in edited
    ]
    return Decision(tuple(told(refused)))


def _fixed_fields(spec: Resource) -> Resource:
    return {name: value for name, value in spec.items() if name not in MUTABLE_AFTER_START}


def errors_of(model: type[BaseModel], body: Resource) -> list[str]:
    """What is wrong with an object by itself, without a cluster."""
    spec = body.get("spec")
    if model is FineTuneJob and isinstance(spec, dict):
        return list(judge("", "", spec, Surroundings()).errors)
    if problem := too_large(spec):
        return [f"spec: {problem}"]
    errors = [_with_root(error) for error in read(model, body)[1]]
    template = spec.get("podTemplate") if isinstance(spec, dict) else None
    if isinstance(template, dict):
        errors += template_errors({"spec.podTemplate": template}, CONTAINERS.get(model, CONTAINER))
    return told(errors)


def _with_root(error: str) -> str:
    """`spec: training.batchSize …`, of a check of the whole spec, as `spec.training.batchSize …`."""
    return error.replace("spec: ", "spec.", 1) if error.startswith("spec: ") else error


def default_patch(request: Resource) -> list[Resource]:
    """JSON patch that writes the models' defaults into an object; empty where the CRD's own have done it.

    They have, unless the CRDs of the cluster are older than the operator: Helm does not upgrade them.
    """
    body, kind = request.get("object"), request["kind"]["kind"]
    if not isinstance(body, dict) or kind not in MODELS or too_large(body.get("spec")):
        return []
    try:
        full = MODELS[kind].model_validate(body).wire()
    except ValidationError:
        return []  # the validating webhook says what is wrong
    return list(_additions(body.get("spec"), full.get("spec"), "/spec"))


def _additions(before: Any, after: Any, path: str) -> list[Resource]:
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            addition
            for name, value in after.items()
            for addition in (
                _additions(before[name], value, f"{path}/{_escaped(name)}")
                if name in before
                else [{"op": "add", "path": f"{path}/{_escaped(name)}", "value": value}]
            )
        ]
    if isinstance(before, list) and isinstance(after, list):
        pairs = enumerate(zip(before, after, strict=True))
        return [addition for index, (b, a) in pairs for addition in _additions(b, a, f"{path}/{index}")]
    return []


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
