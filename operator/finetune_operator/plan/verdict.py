"""The verdict on a FineTuneJob that has not started: one for the webhook and for the reconciler."""

from dataclasses import dataclass
from typing import Any

from finetune_operator.plan.references import (
    MODEL_VERSION,
    Missing,
    Surroundings,
    missing_objects,
    missing_runtime,
    warnings,
)
from finetune_operator.plan.validation import InvalidSpec, Validated, validate

Resource = dict[str, Any]


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
    return Verdict(missing=missing, warnings=tuple(warnings(valid.spec, around)))


def _version_errors(valid: Validated, around: Surroundings) -> list[str]:
    version, source = around.source_version, valid.spec.model.source
    if version is None or not source.startswith(MODEL_VERSION):
        return []
    form = version["spec"].get("format", "Full")
    if form == "Full":
        return []
    return [
        f"spec.model.source: ModelVersion {source.removeprefix(MODEL_VERSION)!r} has the format {form}, which cannot "
        "be trained further; start from its base model, or from a version of format Full"
    ]
