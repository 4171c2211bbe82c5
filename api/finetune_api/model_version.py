"""ModelVersion: the immutable record of one trained model."""

from typing import Literal

from pydantic import Field

from finetune_api.base import Condition, Resource, Schema, rule, schema_with
from finetune_api.metrics import Task
from finetune_api.model_reference import ModelReference
from finetune_api.pods import Credentials


class JobReference(Schema):
    """The FineTuneJob that made it."""

    name: str = Field(max_length=253)
    uid: str = Field(max_length=64)


class ModelArtifact(Schema):
    """The exported files; the digest is the sha256 of their manifest."""

    uri: str = Field(max_length=1024)
    digest: str = Field(max_length=128, pattern=r"^sha256:[0-9a-f]{64}$")


class ModelVersionSpec(Schema):
    """Artifact, metrics and lineage. Nothing here ever changes."""

    model_config = schema_with(
        x_kubernetes_validations=[rule("self == oldSelf", "a ModelVersion is immutable")]
    )
    model_name: str = Field(max_length=63)
    artifact: ModelArtifact
    format: Literal["Full", "Adapter"] = Field(
        "Full", description="An adapter needs its base model to be served."
    )
    base_model: ModelReference | None = None
    task: Task
    metrics: dict[str, float] = Field(default_factory=dict)
    job: JobReference | None = None
    dataset_fingerprint: str | None = Field(None, max_length=128)
    versions: dict[str, str] = Field(
        default_factory=dict, description="Of the packages and the image that trained it."
    )
    credentials: Credentials | None = None
    approval: Literal["Automatic", "Manual"] = "Automatic"


class ModelVersionStatus(Schema):
    """Whether it may be deployed."""

    observed_generation: int | None = None
    approved: bool = False
    conditions: list[Condition] = Field(
        default_factory=list,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )


class ModelVersion(Resource):
    """One trained model."""

    kind: Literal["ModelVersion"] = "ModelVersion"
    spec: ModelVersionSpec
    status: ModelVersionStatus | None = None
