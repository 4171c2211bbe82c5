"""TrainingRuntime and ClusterTrainingRuntime: the platform team's defaults."""

from typing import Literal

from pydantic import Field

from finetune_api.base import Resource, Schema
from finetune_api.failure_policy import FailurePolicy
from finetune_api.network import NetworkAccess
from finetune_api.pods import Credentials, PodTemplate, Resources
from finetune_api.sources import Storage
from finetune_api.training import Checkpoint

SchedulerName = Literal["Default", "Kueue", "Volcano", "Coscheduling", "Native"]


class RuntimeReference(Schema):
    """Which runtime a job builds on."""

    name: str = Field(max_length=253)
    """Name of the runtime."""
    kind: Literal["TrainingRuntime", "ClusterTrainingRuntime"] = "ClusterTrainingRuntime"
    """Of this namespace, or of the whole cluster."""


class OutputStorage(Schema):
    """Where the trained model goes."""

    storage: Storage
    """Its folder."""


class TrainingRuntimeSpec(Schema):
    """A job's own value wins over the runtime's; the pod templates are merged, the job's last."""

    trainer_image: str | None = Field(None, max_length=512)
    """Image of the training pods."""
    serving_image: str | None = Field(None, max_length=512)
    """Image of the inference pods of models trained with this runtime."""
    resources: Resources | None = None
    """Of each training pod."""
    pod_template: PodTemplate | None = None
    """Merged over the generated training pod."""
    credentials: Credentials | None = None
    """For storage and model hubs."""
    checkpoint: Checkpoint | None = None
    """Where and how often jobs save."""
    output: OutputStorage | None = None
    """Where trained models go."""
    failure_policy: FailurePolicy | None = None
    """How often jobs may start again."""
    ttl_seconds_after_finished: int | None = Field(None, ge=0)
    """Delete a finished job after so long; its artifacts stay."""
    allow_trust_remote_code: bool = Field(False, description="Whether jobs may set model.trustRemoteCode.")
    network: NetworkAccess = Field(default_factory=NetworkAccess)
    """What training pods may reach over the network."""
    scheduler: SchedulerName | None = Field(
        None,
        description="Who places the gang. Native: the cluster's own by its API for gangs, where that is enabled. "
        "Default: Kueue for a job that names a queue, else the cluster's own, pod by pod.",
    )
    queue_name: str | None = Field(None, max_length=253, description="Queue of jobs that name none themselves.")


class TrainingRuntime(Resource):
    """Defaults for the jobs of one namespace."""

    kind: Literal["TrainingRuntime"] = "TrainingRuntime"
    spec: TrainingRuntimeSpec


class ClusterTrainingRuntime(Resource):
    """Defaults for the jobs of every namespace."""

    kind: Literal["ClusterTrainingRuntime"] = "ClusterTrainingRuntime"
    spec: TrainingRuntimeSpec
