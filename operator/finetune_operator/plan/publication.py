"""From a finished training to a published model: gates, ModelVersion, ModelDeployment."""

from finetune_api.names import API_VERSION, LABEL_JOB, LABEL_MANAGED_BY, LABEL_MODEL, MANAGER
from finetune_api.reports import TrainingResult
from finetune_operator.plan.basis import Basis
from finetune_operator.plan.causes import Cause
from finetune_operator.plan.endings import fail
from finetune_operator.plan.gates import Baseline, Verdict
from finetune_operator.plan.names import model_version_names, short_name
from finetune_operator.plan.progress import TRAINED
from finetune_operator.plan.reasons import Reason
from finetune_operator.plan.status_draft import StatusDraft
from finetune_operator.plan.training_result import gate_result, keep_result, verdicts_on
from finetune_operator.plan.world import Create, Resource, World


def evaluate(draft: StatusDraft, base: Basis, result: TrainingResult) -> None:
    """Keeps the result in the status, and decides the gates by it."""
    draft.end_attempt(Cause.SUCCEEDED, "trained, evaluated and exported")
    draft.set("Running", False, Reason.SUCCEEDED, "")
    keep_result(draft.status, result)
    judged = verdicts_on(base.job.spec, result, baseline_of(draft.world))
    draft.status["gates"] = [gate_result(step, one) for step, one in judged]
    verdicts = [Verdict(o.metric, o.passed, f"{step}: {o.message}" if step else o.message) for step, o in judged]
    missed = "; ".join(one.message for one in verdicts if not one.passed)
    if missed:
        draft.set("Evaluated", False, Reason.GATE_FAILED, missed)
        draft.event(Reason.GATE_FAILED, missed)
        fail(draft, Reason.GATE_FAILED, f"nothing is published: {missed}")
        return
    passed = "; ".join(one.message for one in verdicts)
    draft.set("Evaluated", True, Reason.GATES_PASSED, passed or "no gate is set")
    if passed:
        draft.event(Reason.GATES_PASSED, passed)
    publish(draft, base)


def baseline_of(world: World) -> Baseline | None:
    """The version that serves the model now; None when nothing does."""
    stable = ((world.serving or {}).get("status") or {}).get("stable")
    if not stable:
        return None
    version = world.deployed_version
    return Baseline(stable, version["spec"].get("metrics", {}) if version else None)


def publish(draft: StatusDraft, base: Basis) -> None:
    """Makes the ModelVersion, then the ModelDeployment; the job succeeds once both are there."""
    spec = base.job.spec
    if spec.publish is None:
        _succeed(draft, "trained; nothing was to be published")
        return
    version = next(iter(draft.world.versions), None)
    deployed = spec.deploy is None or draft.world.deployment is not None
    if version is None or not deployed:
        draft.status["phase"] = "Publishing"
        if version is None:
            draft.writes.append(_version_write(draft, base))
        if spec.deploy is not None and not deployed:
            draft.writes.append(Create(model_deployment(base), shared=True))
        return
    name = version["metadata"]["name"]
    draft.status["modelVersion"] = name
    draft.set("Published", True, Reason.PUBLISHED, f"ModelVersion {name}")
    published = f"published as ModelVersion {name} of {spec.publish.model_name}"
    _succeed(draft, f"{published}; {_deployed(draft, spec.deploy.name)}" if spec.deploy else published)


def _deployed(draft: StatusDraft, name: str) -> str:
    labels = (draft.world.deployment or {}).get("metadata", {}).get("labels", {})
    ours = labels.get(LABEL_JOB) == short_name(draft.world.name)
    return f"ModelDeployment {name} {'created' if ours else 'exists and is left as it is'}"


def _succeed(draft: StatusDraft, message: str) -> None:
    """One event for all that happens in this one step: the publication and the deployment are part of its note."""
    progress = draft.reported
    if progress.get("stage") == TRAINED and progress["step"] < progress["totalSteps"]:
        message = f"{message}; training stopped early, at step {progress['step']} of {progress['totalSteps']}"
    draft.status["phase"] = "Succeeded"
    draft.status["completionTime"] = draft.now_text
    draft.set("Succeeded", True, Reason.SUCCEEDED, message)
    draft.event(Reason.SUCCEEDED, message)


def _version_write(draft: StatusDraft, base: Basis) -> Create:
    artifact = draft.status["artifact"]
    first, second = model_version_names(base.job.name, artifact["digest"])
    return Create(
        model_version(base, first, artifact, draft.status["metrics"]),
        fallback=model_version(base, second, artifact, draft.status["metrics"]),
    )


def model_version(base: Basis, name: str, artifact: Resource, metrics: dict[str, float]) -> Resource:
    """The immutable record. No owner: it outlives the job."""
    job = base.job
    publishing = job.spec.publish
    assert publishing is not None, "only a published job has a version"
    revision = artifact.get("baseRevision") or job.spec.model.revision
    spec = {
        "modelName": publishing.model_name,
        "artifact": {"uri": artifact["uri"], "digest": artifact["digest"]},
        "format": artifact["format"],
        "task": job.spec.task,
        "metrics": metrics,
        "job": {"name": job.name, "uid": job.uid},
        "datasetFingerprint": artifact["datasetFingerprint"] or None,
        "versions": {**artifact["versions"], "image": job.trainer_image},
        "credentials": job.credentials.wire() if job.credentials else None,
        "approval": publishing.approval,
        "baseModel": job.spec.model.model_copy(update={"revision": revision}).wire(),
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "ModelVersion",
        "metadata": _metadata(base, name),
        "spec": {field: value for field, value in spec.items() if value is not None},
    }


def model_deployment(base: Basis) -> Resource:
    """Follows the newest approved version. No owner: it serves on when the job is deleted."""
    job = base.job
    deploy, publishing = job.spec.deploy, job.spec.publish
    assert deploy is not None
    assert publishing is not None
    template = deploy.template.wire()
    if job.serving_image:
        template.setdefault("image", job.serving_image)
    return {
        "apiVersion": API_VERSION,
        "kind": "ModelDeployment",
        "metadata": _metadata(base, deploy.name),
        "spec": {**template, "modelName": publishing.model_name},
    }


def _metadata(base: Basis, name: str) -> Resource:
    publishing = base.job.spec.publish
    assert publishing is not None
    return {
        "name": name,
        "namespace": base.job.namespace,
        "labels": {
            LABEL_JOB: short_name(base.job.name),
            LABEL_MODEL: publishing.model_name,
            LABEL_MANAGED_BY: MANAGER,
        },
    }
