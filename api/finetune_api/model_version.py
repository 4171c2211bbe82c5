"""ModelVersion: the immutable record of one trained model."""

from typing import Literal

from pydantic import Field

from finetune_api.base import Condition, Resource, Schema, rule, schema_with
from finetune_api.metrics import Task
from finetune_api.model_reference import ModelReference
from finetune_api.pods import Credentials
from finetune_api.postprocess import ArtifactFormat


class JobReference(Schema):
    """The FineTuneJob that made it."""

    name: str = Field(max_length=253)
    """Name of the FineTuneJob."""
    uid: str = Field(max_length=64)
    """Its uid."""


class ModelArtifact(Schema):
    """The exported files; the digest is the sha256 of their manifest."""

    uri: str = Field(max_length=1024)
    """Folder of the files."""
    digest: str = Field(max_length=128, pattern=r"^sha256:[0-9a-f]{64}$")
    """sha256 of its manifest.json."""


class ModelVersionSpec(Schema):
    """Artifact, metrics and lineage. Nothing here ever changes."""

    model_config = schema_with(x_kubernetes_validations=[rule("self == oldSelf", "a ModelVersion is immutable")])
    model_name: str = Field(max_length=63)
    """What ModelDeployments follow."""
    artifact: ModelArtifact
    """The exported files."""
    format: ArtifactFormat = Field(
        "Full", description="An adapter needs its base model to be served; only a Full one can be trained further."
    )
    base_model: ModelReference | None = None
    """What an adapter was trained on."""
    task: Task
    """What the model does."""
    metrics: dict[str, float] = Field(default_factory=dict, max_length=64)
    """On held-out data."""
    job: JobReference | None = None
    """Where it came from."""
    dataset_fingerprint: str | None = Field(None, max_length=128)
    """sha256 over the training data."""
    versions: dict[str, str] = Field(
        default_factory=dict, max_length=32, description="Of the packages and the image that trained it."
    )
    credentials: Credentials | None = None
    """To read the artifact."""
    approval: Literal["Automatic", "Manual"] = "Automatic"
    """Manual waits for the annotation finetune-operator.io/approved=true."""


class ModelVersionStatus(Schema):
    """Whether it may be deployed."""

    observed_generation: int | None = None
    """Generation of the spec that this status describes."""
    approved: bool = False
    """ModelDeployments follow approved versions only."""
    conditions: list[Condition] = Field(
        default_factory=list,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    """Ready, which kstatus reads: approved, or what is missing for that."""


class ModelVersion(Resource):
    """One trained model."""

    kind: Literal["ModelVersion"] = "ModelVersion"
    spec: ModelVersionSpec
    """The record."""
    status: ModelVersionStatus | None = None
    """Whether it may be deployed."""
