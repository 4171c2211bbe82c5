"""Approval of a ModelVersion."""

from datetime import UTC, datetime
from typing import Any

import pytest

from finetune_api.names import ANNOTATION_APPROVED
from finetune_operator.plan.model_version import model_version_status

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
LATER = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


def version(approval: str = "Automatic", annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "tickets-1", "namespace": "ml", "generation": 1, "annotations": annotations or {}},
        "spec": {
            "modelName": "tickets",
            "artifact": {"uri": "pvc://models/tickets-1", "digest": f"sha256:{'0' * 64}"},
            "task": "TextClassification",
            "approval": approval,
            **spec,
        },
    }


@pytest.mark.parametrize(
    ("resource", "approved", "reason"),
    [
        (version(), True, "Approved"),
        (version("Manual"), False, "AwaitingApproval"),
        (version("Manual", {ANNOTATION_APPROVED: "true"}), True, "Approved"),
        (version("Manual", {ANNOTATION_APPROVED: "false"}), False, "AwaitingApproval"),
        (version(task="Cooking"), False, "InvalidSpec"),
    ],
)
def test_approval(resource: dict[str, Any], approved: bool, reason: str) -> None:
    status = model_version_status(resource, NOW)
    assert status["approved"] is approved
    assert status["observedGeneration"] == 1
    (ready,) = status["conditions"]
    assert (ready["type"], ready["status"], ready["reason"]) == ("Ready", str(approved), reason)


def test_the_message_says_how_to_approve() -> None:
    (ready,) = model_version_status(version("Manual"), NOW)["conditions"]
    assert f"kubectl annotate modelversion -n ml tickets-1 {ANNOTATION_APPROVED}=true" in ready["message"]


def test_an_invalid_field_is_named() -> None:
    (ready,) = model_version_status(version(task="Cooking"), NOW)["conditions"]
    assert ready["message"].startswith("spec.task:")
    assert "'Cooking'" in ready["message"]


def test_a_status_that_is_right_does_not_change() -> None:
    resource = version()
    resource["status"] = model_version_status(resource, NOW)
    assert model_version_status(resource, LATER) == resource["status"]


def test_withdrawing_the_annotation_withdraws_the_approval() -> None:
    resource = version("Manual", {ANNOTATION_APPROVED: "true"})
    resource["status"] = model_version_status(resource, NOW)
    resource["metadata"]["annotations"] = {}
    status = model_version_status(resource, LATER)
    assert status["approved"] is False
    assert status["conditions"][0]["lastTransitionTime"] == "2026-11-22T10:00:00Z"
