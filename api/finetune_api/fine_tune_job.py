"""FineTuneJob: from a pre-trained model and a dataset to a trained, evaluated, published model."""

from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from finetune_api.base import Condition, Resource, Schema, rule, schema_with
from finetune_api.dataset import Dataset
from finetune_api.evaluation import Evaluation, Publish
from finetune_api.failure_policy import FailurePolicy
from finetune_api.method import Method
from finetune_api.metrics import METRICS, Task
from finetune_api.model_deployment import DeploymentTemplate
from finetune_api.model_reference import ModelReference
from finetune_api.pods import Credentials, PodTemplate, Resources
from finetune_api.training import Checkpoint, Distributed, Training
from finetune_api.training_runtime import OutputStorage, RuntimeReference

MUTABLE_AFTER_START = ("suspend", "ttlSecondsAfterFinished", "activeDeadlineSeconds")
"""Fields of `spec` that may change once the first attempt exists."""


class Deploy(Schema):
    """Creates the ModelDeployment if there is none; never changes one that exists."""

    name: str = Field(max_length=52, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    template: DeploymentTemplate = Field(default_factory=DeploymentTemplate)


class FineTuneJobSpec(Schema):
    """What to train, on what, how, and what becomes of it."""

    model_config = schema_with(
        x_kubernetes_validations=[
            rule("!has(self.deploy) || has(self.publish)", "deploy needs publish: set publish.modelName"),
            rule(
                "self.training.batchSize % (self.distributed.nodes * self.distributed.processesPerNode) == 0",
                "training.batchSize must be a multiple of distributed.nodes × distributed.processesPerNode",
            ),
        ]
    )
    runtime_ref: RuntimeReference | None = None
    model: ModelReference
    task: Task
    dataset: Dataset
    method: Method
    training: Training = Field(default_factory=Training)
    distributed: Distributed = Field(default_factory=Distributed)
    resources: Resources | None = None
    pod_template: PodTemplate | None = None
    trainer_image: str | None = Field(None, max_length=512)
    credentials: Credentials | None = None
    checkpoint: Checkpoint | None = Field(None, description="Required here or in the runtime.")
    output: OutputStorage | None = Field(None, description="Required here or in the runtime.")
    evaluation: Evaluation = Field(default_factory=Evaluation)
    publish: Publish | None = None
    deploy: Deploy | None = None
    failure_policy: FailurePolicy | None = None
    suspend: bool = False
    active_deadline_seconds: int | None = Field(
        None, ge=1, description="For the whole job, restarts included."
    )
    ttl_seconds_after_finished: int | None = Field(None, ge=0)

    @model_validator(mode="after")
    def gates_name_metrics_of_the_task(self) -> "FineTuneJobSpec":
        known = METRICS[self.task]
        named = {f"evaluation.gate[{i}].metric": gate.metric for i, gate in enumerate(self.evaluation.gate)}
        if self.training.early_stopping:
            named["training.earlyStopping.metric"] = self.training.early_stopping.metric
        for path, metric in named.items():
            if metric not in known:
                raise ValueError(
                    f"{path}: {self.task} has no metric {metric!r}; use one of {', '.join(known)}"
                )
        return self

    @model_validator(mode="after")
    def parts_fit_together(self) -> "FineTuneJobSpec":
        world = self.distributed.world_size
        micro = self.training.micro_batch_size or 1
        if self.training.batch_size % (world * micro):
            raise ValueError(
                f"training.batchSize ({self.training.batch_size}) must be a multiple of distributed.nodes × "
                f"distributed.processesPerNode × training.microBatchSize ({world} × {micro})"
            )
        if self.deploy and not self.publish:
            raise ValueError("deploy needs publish: set publish.modelName")
        if self.training.packing and self.task != "TextGeneration":
            raise ValueError(f"training.packing is for TextGeneration, not {self.task}; remove it")
        if self.training.early_stopping and not self._has_validation():
            raise ValueError("training.earlyStopping needs dataset.validation or dataset.split.validation")
        if self.evaluation.gate and not self._has_held_out():
            raise ValueError(
                "evaluation.gate needs held-out data: dataset.test, dataset.validation or dataset.split"
            )
        return self

    def _has_validation(self) -> bool:
        split = self.dataset.split
        return bool(self.dataset.validation or (split and split.validation > 0))

    def _has_held_out(self) -> bool:
        split = self.dataset.split
        return self._has_validation() or bool(self.dataset.test or (split and split.test > 0))


class StatusSchema(Schema):
    """Status is ours: a field of a newer version must not stop an older operator."""

    model_config = ConfigDict(extra="ignore")


class Progress(StatusSchema):
    """What rank 0 last reported."""

    step: int
    total_steps: int
    epoch: float = 0.0
    percent: float = 0.0
    loss: float | None = None
    learning_rate: float | None = None
    tokens_per_second: float | None = None
    eta_seconds: int | None = None
    text: str = Field("", description="step/totalSteps, for the printer column.")
    updated_at: str = ""


class Attempt(StatusSchema):
    """One gang of pods, from start to end."""

    number: int
    cause: str = Field(
        "", description="Why it ended: Succeeded, UserError, BadData, OutOfMemory, Preempted, PodLost …"
    )
    reason: str = ""
    node: str | None = None
    pod: str | None = None
    rank: int | None = None
    exit_code: int | None = None
    last_log_lines: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    resumed_from_step: int | None = None


class Restarts(StatusSchema):
    """How many attempts were started again, by class of cause."""

    user: int = 0
    infrastructure: int = 0
    preemption: int = 0


class LastCheckpoint(StatusSchema):
    """The newest checkpoint whose files were verified against its manifest."""

    step: int
    uri: str
    verified_at: str


class Artifact(StatusSchema):
    """The exported model."""

    uri: str
    digest: str = Field(description="sha256 of the manifest, which holds the sha256 of every file.")


class GateResult(StatusSchema):
    """One gate, decided."""

    metric: str
    passed: bool
    message: str


class FineTuneJobStatus(StatusSchema):
    """What the operator observed."""

    observed_generation: int | None = None
    phase: Literal[
        "Pending",
        "Starting",
        "Running",
        "Restarting",
        "Suspended",
        "Evaluating",
        "Publishing",
        "Succeeded",
        "Failed",
    ] = Field("Pending", description="For people; programs read the conditions.")
    conditions: list[Condition] = Field(
        default_factory=list,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    attempt: int = 0
    attempts: list[Attempt] = Field(default_factory=list, max_length=10, description="The last ten.")
    restarts: Restarts = Field(default_factory=Restarts)
    progress: Progress | None = None
    last_checkpoint: LastCheckpoint | None = None
    best_metric: dict[str, float] | None = None
    metrics: dict[str, float] | None = None
    gates: list[GateResult] | None = None
    artifact: Artifact | None = None
    model_version: str | None = None
    start_time: str | None = None
    completion_time: str | None = None


class FineTuneJob(Resource):
    """One fine-tuning run. Once finished it never runs again."""

    kind: Literal["FineTuneJob"] = "FineTuneJob"
    spec: FineTuneJobSpec
    status: FineTuneJobStatus | None = None
