"""A job over its runtime: every value that an attempt needs, from the first of the two that sets it."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from finetune_api.failure_policy import FailurePolicy
from finetune_api.fine_tune_job import FineTuneJobSpec
from finetune_api.model_reference import ModelReference
from finetune_api.network import NetworkAccess
from finetune_api.pods import Credentials, Resources
from finetune_api.postprocess import PostprocessStep
from finetune_api.training import Checkpoint, Training
from finetune_api.training_runtime import SchedulerName
from finetune_operator.plan.names import storage_suffix
from finetune_operator.plan.places import MODEL_VERSION, read_places, with_places
from finetune_operator.plan.scheduler_choice import NO_RUNTIME, scheduler_of
from finetune_operator.plan.settings import Settings
from finetune_operator.plan.validation import Validated

DEFAULT_FAILURE_POLICY = FailurePolicy()


@dataclass(frozen=True)
class ResolvedJob:
    """A valid job, nothing left open."""

    name: str
    namespace: str
    uid: str
    spec: FineTuneJobSpec
    model: ModelReference
    """As the trainer reads it: a modelversion:// place is replaced by that of its artifact."""
    training: Training
    postprocess: list[PostprocessStep]
    reads: tuple[str, ...]
    """Every place that it reads; the same holds there."""
    trainer_image: str
    serving_image: str | None
    resources: Resources | None
    pod_templates: tuple[dict[str, Any], ...]
    credentials: Credentials | None
    checkpoint: Checkpoint
    output: str
    failure_policy: FailurePolicy
    network: NetworkAccess
    scheduler: SchedulerName
    served: frozenset[str] | None
    """API groups and versions of the cluster; None: not known."""
    queue: str | None


@lru_cache(maxsize=64)
def resolve(
    name: str,
    namespace: str,
    uid: str,
    valid: Validated,
    artifacts: tuple[tuple[str, str], ...],
    settings: Settings,
    served: frozenset[str] | None = None,
) -> ResolvedJob:
    """Merge what was validated before; `artifacts` are the places of named ModelVersions, `served` the cluster's APIs.

    Shared between the reconciles of a job: never change it.
    """
    spec, base = valid.spec, valid.runtime or NO_RUNTIME
    checkpoint, output = spec.checkpoint or base.checkpoint, spec.output or base.output
    if checkpoint is None or output is None:
        raise ValueError("resolve() wants a validated job: checkpoint and output must be set")
    suffix = storage_suffix(name, uid)
    found = {f"{MODEL_VERSION}{version}": uri for version, uri in artifacts}
    located = with_places(spec, found)
    return ResolvedJob(
        name=name,
        namespace=namespace,
        uid=uid,
        spec=spec,
        model=located.model,
        training=located.training,
        postprocess=located.postprocess,
        reads=tuple(uri for _, uri in read_places(located)),
        trainer_image=spec.trainer_image or base.trainer_image or settings.trainer_image,
        serving_image=base.serving_image,
        resources=spec.resources or base.resources,
        pod_templates=tuple(t for t in (base.pod_template, _priority(spec), spec.pod_template) if t),
        credentials=spec.credentials or base.credentials,
        checkpoint=checkpoint.model_copy(update={"storage": below(checkpoint.storage, suffix)}),
        output=below(output.storage, suffix),
        failure_policy=spec.failure_policy or base.failure_policy or DEFAULT_FAILURE_POLICY,
        network=base.network,
        scheduler=scheduler_of(spec, base),
        served=served,
        queue=spec.queue_name or base.queue_name,
    )


def _priority(spec: FineTuneJobSpec) -> dict[str, Any] | None:
    """As a pod template, which is what schedulers and pods take it from."""
    return {"spec": {"priorityClassName": spec.priority_class_name}} if spec.priority_class_name else None


def below(storage: str, folder: str) -> str:
    """`storage/folder`."""
    return f"{storage.rstrip('/')}/{folder}"
