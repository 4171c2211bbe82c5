"""What a job refers to besides itself: what must exist before it starts, and what deserves a word of warning.

A reference that leads nowhere is no error of the spec: the object may be applied a moment later. The reconciler waits
for it, the webhook lets the job pass with a warning; both say the same.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any

from finetune_api.fine_tune_job import FineTuneJobSpec
from finetune_api.names import LABEL_JOB
from finetune_api.sources import claim_of
from finetune_api.training_runtime import TrainingRuntimeSpec
from finetune_operator.plan.named_objects import Named, secret
from finetune_operator.plan.names import short_name
from finetune_operator.plan.places import MODEL_VERSION, read_places
from finetune_operator.plan.reasons import Reason
from finetune_operator.plan.scheduler_choice import local_queue, queue_of, scheduler_of
from finetune_operator.plan.secret_references import named_secrets, not_found_words
from finetune_operator.schedulers.registry import SCHEDULERS

Resource = dict[str, Any]


@dataclass(frozen=True)
class Surroundings:
    """What the references of one job lead to, as the cluster has it now."""

    runtime: Resource | None = None
    """The runtime that `spec.runtimeRef` names."""
    source_versions: Mapping[str, Resource] = field(default_factory=dict)
    """The ModelVersions that modelversion:// places name, by name."""
    deployment: Resource | None = None
    """The ModelDeployment that `spec.deploy` names."""
    claims: Container[str] | None = None
    """PersistentVolumeClaims of the namespace; None: not known, so not asked about."""
    rivals: tuple[str, ...] = ()
    """Other unfinished jobs of the namespace that publish to the same model."""
    published: Resource | None = None
    """A ModelVersion that the model has already."""
    quotas: tuple[Resource, ...] | None = None
    """ResourceQuotas of the namespace; None: not known."""
    api_groups: frozenset[str] | None = None
    """What the API server serves, groups and `group/version`s; None: not known."""
    absent: frozenset[Named] = frozenset()
    """What was looked for by its name and is not there; see `plan.look_ups`."""


@dataclass(frozen=True)
class Missing:
    """Something that the job waits for."""

    reason: Reason
    message: str


def missing_runtime(spec: Resource, around: Surroundings) -> list[Missing]:
    """Looked at first: without it nobody knows what the job still lacks."""
    reference = spec.get("runtimeRef")
    if not isinstance(reference, dict) or around.runtime is not None:
        return []
    kind = reference.get("kind", "ClusterTrainingRuntime")
    name = reference.get("name")
    return [
        Missing(
            Reason.RUNTIME_NOT_FOUND,
            f"spec.runtimeRef: there is no {kind} {name!r}; create it, or correct the name",
        )
    ]


def missing_objects(
    name: str, namespace: str, job: FineTuneJobSpec, runtime: TrainingRuntimeSpec | None, around: Surroundings
) -> list[Missing]:
    """Everything else that a valid job waits for."""
    return [
        *_missing_versions(namespace, job, around),
        *_missing_claims(namespace, job, runtime, around),
        *_missing_secrets(namespace, job, runtime, around),
        *_taken_deployment(name, job, around),
        *_missing_scheduler(job, runtime, around),
        *_missing_queue(namespace, job, runtime, around),
    ]


def _missing_queue(
    namespace: str, job: FineTuneJobSpec, runtime: TrainingRuntimeSpec | None, around: Surroundings
) -> list[Missing]:
    queue = local_queue(scheduler_of(job, runtime), queue_of(job, runtime), around.api_groups)
    if queue is None or queue not in around.absent:
        return []
    field = "spec.queueName" if job.queue_name else "runtime.spec.queueName"
    return [
        Missing(
            Reason.QUEUE_NOT_FOUND,
            f"{field}: there is no LocalQueue {queue.name!r} in namespace {namespace}; create it, or correct the name",
        )
    ]


def _missing_scheduler(
    job: FineTuneJobSpec, runtime: TrainingRuntimeSpec | None, around: Surroundings
) -> list[Missing]:
    """Without its scheduler a gang would wait for ever, and nobody would say for what."""
    name = scheduler_of(job, runtime)
    apis = SCHEDULERS[name].apis
    if not apis or around.api_groups is None or around.api_groups.intersection(apis):
        return []
    field = "runtime.spec.scheduler" if runtime and runtime.scheduler else "spec.queueName"
    return [
        Missing(
            Reason.SCHEDULER_NOT_FOUND,
            f"{field}: {name} is not installed in this cluster, which does not serve {' or '.join(apis)}; install or "
            "enable it, or use another runtime",
        )
    ]


def _missing_versions(namespace: str, job: FineTuneJobSpec, around: Surroundings) -> list[Missing]:
    return [
        Missing(
            Reason.MODEL_VERSION_NOT_FOUND, f"{path}: there is no ModelVersion {version!r} in namespace {namespace}"
        )
        for path, uri in read_places(job)
        if uri.startswith(MODEL_VERSION) and (version := uri.removeprefix(MODEL_VERSION)) not in around.source_versions
    ]


def _missing_claims(
    namespace: str, job: FineTuneJobSpec, runtime: TrainingRuntimeSpec | None, around: Surroundings
) -> list[Missing]:
    if around.claims is None:
        return []
    return [
        Missing(
            Reason.CLAIM_NOT_FOUND,
            f"{path}: there is no PersistentVolumeClaim {claim!r} in namespace {namespace}; create it, or correct "
            "the name",
        )
        for path, uri in _storage(job, runtime)
        if (claim := claim_of(uri)) and claim not in around.claims
    ]


def _missing_secrets(
    namespace: str, job: FineTuneJobSpec, runtime: TrainingRuntimeSpec | None, around: Surroundings
) -> list[Missing]:
    if not around.absent:
        return []
    return [
        Missing(
            Reason.SECRET_NOT_FOUND,
            f"{path}: {not_found_words(name, namespace)}",
        )
        for path, name in named_secrets(job, runtime)
        if secret(name) in around.absent
    ]


def _storage(job: FineTuneJobSpec, runtime: TrainingRuntimeSpec | None) -> list[tuple[str, str]]:
    """Field and URI of every place that the job reads or writes."""
    places = read_places(job)
    for name in ("checkpoint", "output"):
        own, inherited = getattr(job, name), getattr(runtime, name, None)
        if (given := own or inherited) is not None:
            places.append((f"{'' if own else 'runtime.'}spec.{name}.storage", given.storage))
    return places


def _taken_deployment(name: str, job: FineTuneJobSpec, around: Surroundings) -> list[Missing]:
    """`spec.deploy` never changes a deployment that exists: one of another model would never serve this one."""
    if not job.deploy or not job.publish or around.deployment is None:
        return []
    served = around.deployment["spec"].get("modelName")
    ours = (around.deployment["metadata"].get("labels") or {}).get(LABEL_JOB) == short_name(name)
    if served == job.publish.model_name or ours:
        return []
    return [
        Missing(
            Reason.DEPLOYMENT_TAKEN,
            f"spec.deploy.name: ModelDeployment {job.deploy.name!r} serves the model {served!r}, not "
            f"{job.publish.model_name!r}; choose another name, or delete it",
        )
    ]


def warnings(job: FineTuneJobSpec, around: Surroundings) -> list[str]:
    """What may well be meant, and often is not."""
    return [*_rivals(job, around), *_another_task(job, around)]


def _rivals(job: FineTuneJobSpec, around: Surroundings) -> list[str]:
    if not job.publish or not around.rivals:
        return []
    return [
        f"spec.publish.modelName: {', '.join(sorted(around.rivals)[:3])} will publish to {job.publish.model_name!r} "
        "too; the version that is published last is the one that gets served"
    ]


def _another_task(job: FineTuneJobSpec, around: Surroundings) -> list[str]:
    """A deployment follows its model by name: clients would get answers of another form."""
    if not job.publish or around.published is None or around.published["spec"]["task"] == job.task:
        return []
    return [
        f"spec.publish.modelName: {job.publish.model_name!r} has versions for {around.published['spec']['task']}, and "
        f"this job trains for {job.task}; what serves the model would answer in another form: choose another name"
    ]
