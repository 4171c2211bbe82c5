"""Whether a ModelVersion may be deployed."""

from datetime import datetime
from typing import Any

from pydantic import ValidationError

from finetune_api.errors import field_errors
from finetune_api.model_version import ModelVersionSpec
from finetune_api.names import ANNOTATION_APPROVED
from finetune_operator.plan.conditions import with_condition
from finetune_operator.plan.timestamps import rfc3339

APPROVED = "Approved"
AWAITING_APPROVAL = "AwaitingApproval"
INVALID_SPEC = "InvalidSpec"


def model_version_status(resource: dict[str, Any], now: datetime) -> dict[str, Any]:
    """The status of a ModelVersion: approved by its spec, or by the annotation of a person."""
    approved, reason, message = _verdict(resource)
    conditions = with_condition(
        resource.get("status", {}).get("conditions"),
        "Ready",
        approved,
        reason,
        message,
        now=rfc3339(now),
        generation=resource["metadata"].get("generation", 0),
    )
    return {
        "observedGeneration": resource["metadata"].get("generation", 0),
        "approved": approved,
        "conditions": conditions,
    }


def _verdict(resource: dict[str, Any]) -> tuple[bool, str, str]:
    metadata = resource["metadata"]
    try:
        spec = ModelVersionSpec.model_validate(resource.get("spec"))
    except ValidationError as error:
        return False, INVALID_SPEC, "\n".join(f"spec.{one}" for one in field_errors(error, ModelVersionSpec))
    if spec.approval == "Automatic":
        return True, APPROVED, "approved by spec.approval: Automatic"
    if (metadata.get("annotations") or {}).get(ANNOTATION_APPROVED) == "true":
        return True, APPROVED, f"approved by the annotation {ANNOTATION_APPROVED}"
    return (
        False,
        AWAITING_APPROVAL,
        f"to approve it: kubectl annotate modelversion -n {metadata['namespace']} {metadata['name']} "
        f"{ANNOTATION_APPROVED}=true",
    )
