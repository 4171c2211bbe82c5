"""What postprocess made is gated and published, not the model before it."""

from typing import Any

from finetune_api import ModelVersion
from plan.builders import RESULT, condition
from plan.test_publication import PUBLISH, completed

DIGESTS = {"merge": "sha256:" + "cd34" * 16, "quantize": "sha256:" + "ef56" * 16}
STEPS = [{"merge": {}}, {"quantize": {}}]
MADE = {
    **RESULT,
    "format": "Adapter",
    "postprocess": [
        {"name": "merge", "artifactDigest": DIGESTS["merge"], "format": "Full", "metrics": {"f1": 0.91}},
        {"name": "quantize", "artifactDigest": DIGESTS["quantize"], "format": "Quantized", "metrics": {"f1": 0.88}},
    ],
}


def finish(steps: list[dict[str, Any]] = STEPS, gate: dict[str, Any] | None = None) -> Any:
    evaluation = {"evaluation": {"gate": [{"metric": "f1", **gate}]}} if gate else {}
    return completed(result=MADE, postprocess=steps, **PUBLISH, **evaluation)[1]


def test_the_last_artifact_is_published() -> None:
    plan = finish()
    assert plan.status["artifact"]["uri"] == f"{RESULT['artifactUri']}-quantize"
    assert plan.status["metrics"] == {"f1": 0.88}
    assert plan.status["trainedMetrics"] == RESULT["metrics"]
    assert [step["name"] for step in plan.status["postprocess"]] == ["merge", "quantize"]
    version = ModelVersion.model_validate(plan.writes[0].body)
    assert (version.spec.format, version.spec.artifact.digest) == ("Quantized", DIGESTS["quantize"])
    assert version.spec.metrics == {"f1": 0.88}


def test_the_gates_of_the_job_are_decided_on_the_last_artifact() -> None:
    plan = finish(gate={"operator": ">=", "value": 0.9})
    assert condition(plan, "Failed") == ("True", "GateFailed")
    assert plan.status["gates"][0]["message"] == "f1 is 0.88, required >= 0.9: missed by 0.02"
    assert plan.writes == ()


def test_a_loss_against_the_model_as_trained() -> None:
    assert condition(finish(gate={"baseline": "Trained", "maxRegression": 0.05}), "Evaluated")[0] == "True"
    plan = finish(gate={"baseline": "Trained", "maxRegression": 0.01})
    assert condition(plan, "Evaluated") == ("False", "GateFailed")
    assert "0.91 of the model as trained with a regression of 0.01 allowed" in plan.status["gates"][0]["message"]


def test_a_gate_of_a_step_is_decided_on_what_that_step_made() -> None:
    strict = {"metric": "f1", "operator": ">=", "value": 0.9}
    assert condition(finish([{"merge": {}, "gate": [strict]}, {"quantize": {}}]), "Evaluated")[0] == "True"
    plan = finish([{"merge": {}}, {"quantize": {}, "gate": [strict]}])
    assert condition(plan, "Evaluated") == ("False", "GateFailed")
    (entry,) = plan.status["gates"]
    assert (entry["step"], entry["passed"]) == ("quantize", False)


def test_a_step_that_left_no_result_never_passes() -> None:
    missing = {"name": "onnx", "merge": {}, "gate": [{"metric": "f1", "operator": ">=", "value": 0.1}]}
    plan = finish([missing])
    assert condition(plan, "Evaluated") == ("False", "GateFailed")
