"""The verdict on a FineTuneJob that has not started: one for the webhook and for the reconciler."""

from dataclasses import dataclass
from typing import Any

from finetune_api.averaging import AVERAGED_FORMATS
from finetune_api.distillation import TEACHING_FORMATS
from finetune_operator.plan.places import MODEL_VERSION, read_places
from finetune_operator.plan.quota import quota_warnings
from finetune_operator.plan.references import (
    Missing,
    Surroundings,
    missing_objects,
    missing_runtime,
    warnings,
)
from finetune_operator.plan.validation import InvalidSpec, Validated, validate

Resource = dict[str, Any]
NOT_TRAINABLE = "cannot be trained further; start from its base model, or from a version of format Full"
NOT_AVERAGED = "has no weights to average; name the version of format Full or Adapter that it was made of"
NO_TEACHER = "needs its base model beside it; add postprocess: [{merge: {}}] to the job that makes the teacher"


@dataclass(frozen=True)
class Verdict:
    """`errors` refuse the job for good, `missing` lets it wait, `warnings` are for people."""

    errors: tuple[str, ...] = ()
    missing: tuple[Missing, ...] = ()
    warnings: tuple[str, ...] = ()


def judge(name: str, namespace: str, spec: Resource, around: Surroundings) -> Verdict:
    """What the operator thinks of a job, given what it refers to."""
    absent = missing_runtime(spec, around)
    runtime = around.runtime["spec"] if spec.get("runtimeRef") and around.runtime else None
    try:
        # What is wrong in itself needs no runtime to be refused.
        valid = validate(spec, runtime, complete=not absent)
    except InvalidSpec as error:
        return Verdict(error.errors)
    if errors := _version_errors(valid, around):
        return Verdict(tuple(errors))
    missing = (*absent, *missing_objects(name, namespace, valid.spec, valid.runtime, around))
    return Verdict(
        missing=missing,
        warnings=(*warnings(valid.spec, around), *quota_warnings(valid.spec, valid.runtime, around.quotas)),
    )


def _version_errors(valid: Validated, around: Surroundings) -> list[str]:
    distillation = valid.spec.training.distillation
    uses: list[tuple[str, str, tuple[str, ...], str]] = [
        ("spec.model.source", source, ("Full",), NOT_TRAINABLE) for source in valid.spec.model.sources
    ]
    if distillation:
        uses.append(("spec.training.distillation.teacher", distillation.teacher, TEACHING_FORMATS, NO_TEACHER))
    averaged = [(path, uri) for path, uri in read_places(valid.spec) if path.startswith("spec.postprocess[")]
    uses += [(path, uri, AVERAGED_FORMATS, NOT_AVERAGED) for path, uri in averaged]
    errors = []
    for path, uri, formats, mend in uses:
        version = _version(uri, around)
        form = version["spec"].get("format", "Full") if version else "Full"
        if form not in formats:
            errors.append(f"{path}: ModelVersion {_name(uri)!r} has the format {form}, which {mend}")
    for path, uri in averaged:
        version = _version(uri, around)
        task = version["spec"].get("task") if version else None
        if task not in (None, valid.spec.task):
            errors.append(
                f"{path}: ModelVersion {_name(uri)!r} is a model for {task}, not {valid.spec.task}; remove it"
            )
    return errors


def _version(uri: str, around: Surroundings) -> Resource | None:
    return around.source_versions.get(_name(uri)) if uri.startswith(MODEL_VERSION) else None


def _name(uri: str) -> str:
    return uri.removeprefix(MODEL_VERSION)
