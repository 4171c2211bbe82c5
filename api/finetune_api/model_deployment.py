"""ModelDeployment: keeps one version of a model serving."""

from typing import Literal

from pydantic import Field

from finetune_api.base import Condition, Resource, Schema
from finetune_api.pods import Credentials, PodTemplate, Resources
from finetune_api.text_forms import ModelName


class DeploymentTemplate(Schema):
    """How the model is served; the same fields in FineTuneJob.spec.deploy.template and ModelDeployment.spec."""

    replicas: int = Field(1, ge=0, le=1000)
    """Inference pods."""
    image: str | None = Field(None, max_length=512, description="Default: the operator's serving image.")
    resources: Resources | None = None
    """Of each inference pod."""
    pod_template: PodTemplate | None = None
    """Merged over the generated pod; its container is named `server`."""
    credentials: Credentials | None = None
    """To read the artifact and the base model."""
    progress_deadline_seconds: int = Field(
        600, ge=1, description="A new version that is not ready by then is rolled back."
    )


class ModelDeploymentSpec(DeploymentTemplate):
    """Follows the newest approved version of `modelName`, unless `version` pins one."""

    model_name: ModelName
    """Whose versions to serve."""
    version: str | None = Field(None, max_length=253, description="Name of a ModelVersion to stay on.")


class VersionChange(Schema):
    """One change of the served version."""

    version: str
    """Name of the ModelVersion."""
    outcome: Literal["Promoted", "RolledBack"]
    """What came of its rollout."""
    reason: str = ""
    """Why it was rolled back."""
    time: str
    """When that was decided."""


class ModelDeploymentStatus(Schema):
    """What serves, and what is being rolled out."""

    observed_generation: int | None = None
    """Generation of the spec that this status describes."""
    stable: str | None = Field(None, description="The version that serves.")
    candidate: str | None = Field(None, description="The version being rolled out.")
    failed_versions: list[str] = Field(
        default_factory=list, max_length=10, description="Rolled back; not tried again until pinned."
    )
    pinned: str | None = Field(
        None, description="`spec.version` as last acted on; a new pin tries a failed version once more."
    )
    replicas: int = 0
    """Pods there are."""
    ready_replicas: int = 0
    """Pods that answer."""
    available: str = Field("", description="available/desired, for the printer column.")
    selector: str = Field("", description="Label selector of the pods, for the scale subresource.")
    url: str | None = None
    """Address inside the cluster."""
    history: list[VersionChange] = Field(default_factory=list, max_length=10)
    """The last ten changes, newest last."""
    conditions: list[Condition] = Field(
        default_factory=list,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    """Available, Progressing, Degraded; Ready, Reconciling and Stalled for kstatus."""


class ModelDeployment(Resource):
    """One served model."""

    kind: Literal["ModelDeployment"] = "ModelDeployment"
    spec: ModelDeploymentSpec
    """What the user wants."""
    status: ModelDeploymentStatus | None = None
    """What the operator observed."""
