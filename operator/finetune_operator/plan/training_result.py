"""What a finished training made, and the verdicts on all of it: the last artifact, and each step on the way to it."""

import math
from typing import Any

from finetune_api.fine_tune_job import FineTuneJobSpec
from finetune_api.postprocess import artifact_uri
from finetune_api.reports import TrainingResult
from finetune_operator.plan.gates import Baseline, TrainedModel, Verdict, decide_gates


def keep_result(status: dict[str, Any], result: TrainingResult) -> None:
    """Into the status: metrics and artifact are those of the last step, which is what gets published."""
    artifact = {
        "uri": result.artifact_uri,
        "digest": result.artifact_digest,
        "format": result.format,
        "datasetFingerprint": result.dataset_fingerprint,
        "versions": dict(result.versions),
    }
    if result.base_revision:
        artifact["baseRevision"] = result.base_revision
    status["metrics"] = _finite(result.metrics)
    steps = [
        {
            "name": step.name,
            "uri": artifact_uri(result.artifact_uri, step.name),
            "digest": step.artifact_digest,
            "format": step.format,
            "metrics": _finite(step.metrics),
        }
        for step in result.postprocess
    ]
    if steps:
        last = steps[-1]
        status["trainedMetrics"] = status["metrics"]
        status["postprocess"] = steps
        status["metrics"] = last["metrics"]
        artifact |= {field: last[field] for field in ("uri", "digest", "format")}
    status["artifact"] = artifact


def _finite(metrics: dict[str, float]) -> dict[str, float]:
    """JSON, and so a status, has no other numbers."""
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def verdicts_on(
    spec: FineTuneJobSpec, result: TrainingResult, deployed: Baseline | None
) -> list[tuple[str | None, Verdict]]:
    """Each step's own gates on what it made, then those of the job on the last artifact; with the step's name."""
    trained = TrainedModel(dict(result.metrics))
    made = {step.name: dict(step.metrics) for step in result.postprocess}
    verdicts: list[tuple[str | None, Verdict]] = []
    for step in spec.postprocess:
        found = decide_gates(step.gate, made.get(step.title, {}), deployed, result.not_computed, trained)
        verdicts += [(step.title, verdict) for verdict in found]
    final = result.postprocess[-1].metrics if result.postprocess else result.metrics
    found = decide_gates(spec.evaluation.gate, final, deployed, result.not_computed, trained)
    return verdicts + [(None, verdict) for verdict in found]


def gate_result(step: str | None, verdict: Verdict) -> dict[str, Any]:
    """One entry of `status.gates`."""
    entry = {"metric": verdict.metric, "passed": verdict.passed, "message": verdict.message}
    return {"step": step, **entry} if step else entry
