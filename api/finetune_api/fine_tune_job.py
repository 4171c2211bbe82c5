"""FineTuneJob: from a pre-trained model and a dataset to a trained, evaluated, published model."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, ValidationInfo, model_validator

from finetune_api.attempts import Attempt, Restarts, StatusSchema
from finetune_api.base import Condition, Resource, Schema, rule, schema_with
from finetune_api.dataset import Dataset
from finetune_api.distillation import distillation_rule
from finetune_api.distributed import Distributed
from finetune_api.engine_support import shard_rules, uneven_batch, unshardable
from finetune_api.errors import Problems
from finetune_api.evaluation import Evaluation, Gate, Publish
from finetune_api.failure_policy import FailurePolicy
from finetune_api.method import Method
from finetune_api.method_support import support_rules, unsupported
from finetune_api.metrics import DEFAULT_TOP_K, Task, is_ratio, metrics_of
from finetune_api.model_deployment import DeploymentTemplate
from finetune_api.model_reference import ModelReference, origin_problems, origin_rules
from finetune_api.multi_task import multi_task_problems, subtask_kinds, subtask_rules
from finetune_api.objectives import length_problems
from finetune_api.optimization import Plateau
from finetune_api.pods import Credentials, PodTemplate, Resources
from finetune_api.postprocess import MAX_STEPS, ArtifactFormat, PostprocessedArtifact, PostprocessStep, step_problems
from finetune_api.spelling import closest
from finetune_api.text_forms import DeploymentName
from finetune_api.training import Checkpoint, Training
from finetune_api.training_runtime import OutputStorage, RuntimeReference
from finetune_api.unknown import decidable

MUTABLE_AFTER_START = ("suspend", "ttlSecondsAfterFinished", "activeDeadlineSeconds")
"""Fields of `spec` that may change once the first attempt exists."""


class Deploy(Schema):
    """Creates the ModelDeployment if there is none; never changes one that exists."""

    name: DeploymentName
    """Name of the ModelDeployment, and of its Service."""
    template: DeploymentTemplate = Field(default_factory=DeploymentTemplate)
    """Used only when the ModelDeployment is created."""


class FineTuneJobSpec(Schema):
    """What to train, on what, how, and what becomes of it."""

    model_config = schema_with(
        x_kubernetes_validations=[
            rule("!has(self.deploy) || has(self.publish)", "deploy needs publish: set publish.modelName"),
            rule(
                "self.training.batchSize % (self.distributed.nodes * self.distributed.processesPerNode) == 0",
                "training.batchSize must be a multiple of distributed.nodes × distributed.processesPerNode",
            ),
            *support_rules(),
            *origin_rules(),
            rule(
                "has(self.managedBy) == has(oldSelf.managedBy) && "
                "(!has(self.managedBy) || self.managedBy == oldSelf.managedBy)",
                "managedBy is fixed at creation",
            ),
            *shard_rules(),
            distillation_rule(),
            *subtask_rules(),
        ]
    )
    runtime_ref: RuntimeReference | None = None
    """The platform team's defaults. Copied at the start: later edits do not change this job."""
    model: ModelReference
    """What to start from."""
    task: Task
    """What the model learns to do."""
    dataset: Dataset
    """What it learns from."""
    method: Method
    """How the weights change."""
    training: Training = Field(default_factory=Training)
    """Hyper-parameters."""
    distributed: Distributed = Field(default_factory=Distributed)
    """Over how many pods and processes."""
    resources: Resources | None = None
    """Of each training pod."""
    pod_template: PodTemplate | None = None
    """Merged over the generated training pod; its container is named `trainer`."""
    trainer_image: str | None = Field(None, max_length=512)
    """Image of the training pods."""
    credentials: Credentials | None = None
    """For storage and model hubs."""
    checkpoint: Checkpoint | None = Field(None, description="Required here or in the runtime.")
    output: OutputStorage | None = Field(None, description="Required here or in the runtime.")
    evaluation: Evaluation = Field(default_factory=Evaluation)
    """What the model must reach before it is published."""
    postprocess: list[PostprocessStep] = Field(
        default_factory=list,
        max_length=MAX_STEPS,
        description="What is done to the model after training, each step to the result of the one before. What the "
        "last one makes is gated and published.",
    )
    publish: Publish | None = None
    """Record the result as a ModelVersion."""
    deploy: Deploy | None = None
    """Serve the published model."""
    failure_policy: FailurePolicy | None = None
    """How often the job may start again, by cause."""
    queue_name: str | None = Field(
        None,
        max_length=253,
        description="LocalQueue of Kueue, or queue of Volcano where the runtime's scheduler is Volcano.",
    )
    priority_class_name: str | None = Field(
        None, max_length=253, description="PriorityClass of the pods; over the podTemplate of the runtime."
    )
    managed_by: str | None = Field(
        None,
        max_length=63,
        description="Another controller, such as kueue.x-k8s.io/multikueue, that takes care of this job instead of "
        "this operator. Fixed at creation.",
    )
    suspend: bool = False
    """Stop after saving a checkpoint; setting it back to false goes on from there."""
    start_deadline_seconds: int | None = Field(
        None,
        ge=1,
        description="For the pods of one attempt, until all of them run. Then they are given up, with whatever they "
        "hold, and failurePolicy decides. Unset: they wait.",
    )
    active_deadline_seconds: int | None = Field(
        None,
        ge=1,
        description="For the whole job, restarts included; time spent suspended or in a queue does not count.",
    )
    ttl_seconds_after_finished: int | None = Field(None, ge=0)
    """Delete the finished job after so long; its artifacts, checkpoints and ModelVersion stay."""

    @model_validator(mode="after")
    def parts_fit_together(self, info: ValidationInfo) -> "FineTuneJobSpec":
        """All that is wrong is told at once: with a list as context, into that list."""
        checks = (
            self._unknown_metrics,
            self._impossible_gates,
            lambda: uneven_batch(self.training, self.distributed),
            lambda: origin_problems(self.task, self.model, self.training.precision),
            lambda: unsupported(self.method, self.task, self.training, self.distributed),
            lambda: unshardable(self.task, self.training, self.distributed),
            lambda: self.dataset.problems_with(self.task),
            lambda: length_problems(self.task, self.dataset, self.training),
            lambda: multi_task_problems(self.task, self.dataset, self.model),
            self._undeployable,
            self._unpackable,
            self._unwatched,
            lambda: step_problems(self.postprocess, self.method, self.task),
            self._ungated,
        )
        Problems.check(decidable(*checks), info.context)
        return self

    def _unknown_metrics(self) -> Iterator[str]:
        top_k = self.evaluation.top_k or DEFAULT_TOP_K
        rated, subtasks = self.dataset.columns.rating is not None, subtask_kinds(self.dataset)
        known = metrics_of(self.task, rated=rated, top_k=top_k, subtasks=subtasks)
        if self.evaluation.top_k is not None and self.task != "Recommendation":
            yield f"evaluation.topK is for Recommendation, not {self.task}; remove it"
        named = {f"{path}.metric": gate.metric for path, gate in self._gates()}
        if self.training.early_stopping:
            named["training.earlyStopping.metric"] = self.training.early_stopping.metric
        if self.training.scheduler == "ReduceOnPlateau":
            named["training.plateau.metric"] = (self.training.plateau or Plateau()).metric
        named |= dict(self._greedy_averages())
        for path, metric in named.items():
            if metric not in known:
                meant = closest(metric, known)
                mend = f"did you mean {meant!r}? It has" if meant else "use one of"
                yield f"{path}: {self.task} has no metric {metric!r}; {mend} {', '.join(known)}"

    def _gates(self) -> Iterator[tuple[str, Gate]]:
        """Every gate with its path."""
        yield from ((f"evaluation.gate[{i}]", gate) for i, gate in enumerate(self.evaluation.gate))
        for place, step in enumerate(self.postprocess):
            yield from ((f"postprocess[{place}].gate[{i}]", gate) for i, gate in enumerate(step.gate))

    def _greedy_averages(self) -> Iterator[tuple[str, str]]:
        """Field and metric of each average that chooses its models."""
        for place, step in enumerate(self.postprocess):
            if step.average and step.average.greedy_by:
                yield f"postprocess[{place}].average.greedyBy", step.average.greedy_by

    def _impossible_gates(self) -> Iterator[str]:
        for path, gate in self._gates():
            if gate.value is not None and is_ratio(gate.metric) and not 0 <= gate.value <= 1:
                yield f"{path}.value: {gate.metric} lies between 0 and 1, got {gate.value:g}; for 85 % write 0.85"
            if gate.baseline == "Deployed" and self.publish is None:
                yield f"{path}.baseline: which model is deployed is said by publish.modelName; set it"

    def _undeployable(self) -> Iterator[str]:
        if self.deploy is not None and self.publish is None:
            yield "deploy needs publish: set publish.modelName"

    def _unpackable(self) -> Iterator[str]:
        if self.training.packing and self.task != "TextGeneration":
            yield f"training.packing is for TextGeneration, not {self.task}; remove it"

    def _unwatched(self) -> Iterator[str]:
        if self.training.early_stopping is not None and not self.dataset.has_validation:
            yield "training.earlyStopping needs dataset.validation or dataset.split.validation"
        if self.training.evaluate_every_steps is not None and not self.dataset.has_validation:
            yield (
                "training.evaluateEverySteps: there is no validation data to evaluate on; set dataset.validation or "
                "dataset.split.validation, or remove it"
            )
        if self.training.scheduler == "ReduceOnPlateau" and not self.dataset.has_validation:
            yield (
                "training.scheduler ReduceOnPlateau watches the validation data: set dataset.validation or "
                "dataset.split.validation, or take another scheduler"
            )

        for path, _ in self._greedy_averages():
            if not self.dataset.has_validation:
                yield f"{path} needs dataset.validation or dataset.split.validation: the test data is for the result"

    def _ungated(self) -> Iterator[str]:
        for path, gate in self._gates():
            if not self.dataset.has_held_out:
                yield f"{path} needs held-out data: dataset.test, dataset.validation or dataset.split"
            if gate.baseline == "Trained" and not self.postprocess:
                yield f"{path}.baseline: Trained is for what postprocess makes, and there is none; remove the gate"


class Straggler(StatusSchema):
    """A rank that holds the others up."""

    rank: int
    """Global rank of the process."""
    slowdown: float
    """Its own time for a step (data and forward pass), as a multiple of the others'."""


class Progress(StatusSchema):
    """What rank 0 last reported."""

    attempt: int = 0
    """Attempt that reported."""
    stage: Literal["Preparing", "Training", "Evaluating", "Exporting"] = "Training"
    """What it was at."""
    resumed_from_step: int | None = None
    """Step of the checkpoint that it restored; unset for a start from nothing."""
    step: int
    """Optimizer steps done."""
    total_steps: int
    """Optimizer steps of the whole run."""
    epoch: float = 0.0
    """Passes over the data."""
    percent: float = 0.0
    """Of the training, 0 to 100; 100 also when it stopped early."""
    loss: float | None = None
    """Mean training loss since the last report."""
    learning_rate: float | None = None
    """Of the last step."""
    tokens_per_second: float | None = None
    """Over all processes."""
    eta_seconds: int | None = None
    """Estimated seconds to the last step."""
    stragglers: list[Straggler] | None = Field(None, max_length=8, description="Ranks that hold the others up.")
    text: str = Field("", description="step/totalSteps, for the printer column.")
    percent_text: str = Field("", description="percent with its sign, for the printer column.")
    updated_at: str = ""
    """When the report came."""


class LastCheckpoint(StatusSchema):
    """The newest checkpoint whose files were verified against its manifest."""

    attempt: int = 0
    """Attempt that last reported it."""
    step: int
    """Optimizer steps it holds."""
    uri: str
    """Its folder."""
    verified_at: str
    """When every file had been read back and compared."""


class Artifact(StatusSchema):
    """The exported model."""

    uri: str
    """Its folder."""
    digest: str = Field(description="sha256 of the manifest, which holds the sha256 of every file.")
    format: ArtifactFormat = "Full"
    """An adapter is served together with its base model."""
    base_revision: str | None = None
    """Commit of the Hub model that the training started from."""
    dataset_fingerprint: str | None = None
    """Of the data that it was trained on."""
    versions: dict[str, str] | None = None
    """Of the packages that trained it."""


class GateResult(StatusSchema):
    """One gate, decided."""

    metric: str
    """Name of the metric."""
    step: str | None = None
    """Step of postprocess whose own gate it is; unset for those of evaluation.gate."""
    passed: bool
    """Whether the model may be published."""
    message: str
    """Value, bound and by how much it missed."""


class DataSummary(StatusSchema):
    """What was read, and what was lost on the way; the data report beside the artifact says more."""

    train: int = 0
    """Training examples in use, altered copies included."""
    validation: int = 0
    """Validation examples in use."""
    test: int = 0
    """Test examples in use."""
    dropped: dict[str, int] = Field(default_factory=dict)
    """Examples left out, by the rule that left them out; of badBoxes the boxes."""
    truncated: int = 0
    """Examples cut to dataset.maxLength."""
    split: int = 0
    """Examples that became several pieces or windows (dataset.overLength Split)."""
    unscored: int = 0
    """Held-out examples of which dataset.maxLength leaves nothing to score; they count as wrong."""
    redacted: int = 0
    """Pieces of personal data taken out."""


class FineTuneJobStatus(StatusSchema):
    """What the operator observed."""

    observed_generation: int | None = None
    """Generation of the spec that this status describes."""
    phase: Literal[
        "Pending",
        "Queued",
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
    """Validated, Admitted, Preflight, Running, Growing, Evaluated, Published, Succeeded, Failed, Suspended; Planned,
    when the operator was at a loss; and Ready, Reconciling and Stalled of kstatus."""
    attempt: int = 0
    """Number of the current or last attempt."""
    nodes: int | None = Field(None, description="Pods of the current or last attempt.")
    attempts: list[Attempt] = Field(default_factory=list, max_length=10, description="The last ten.")
    snapshot_digest: str | None = Field(
        None, description="Of what the job started with, which the ConfigMap of its first attempt keeps."
    )
    restarts: Restarts = Field(default_factory=Restarts)
    """Attempts started again, by cause."""
    progress: Progress | None = None
    """What rank 0 last reported."""
    last_checkpoint: LastCheckpoint | None = None
    """Where the next attempt would go on."""
    data: DataSummary | None = None
    """What became of the data."""
    best_metric: dict[str, float] | None = None
    """Best value of the validation metric so far."""
    metrics: dict[str, float] | None = None
    """Of the finished model, on held-out data."""
    gates: list[GateResult] | None = None
    """Verdict of each evaluation gate."""
    trained_metrics: dict[str, float] | None = None
    """Of the model as it was trained, when postprocess changed it."""
    postprocess: list[PostprocessedArtifact] | None = None
    """What each step of postprocess made."""
    artifact: Artifact | None = None
    """The exported model."""
    model_version: str | None = None
    """Name of the ModelVersion."""
    start_time: str | None = None
    """When the first attempt was created."""
    completion_time: str | None = None
    """When the job succeeded or failed."""
    suspended_seconds: int = 0
    """Time spent suspended, or in a queue, after the start; activeDeadlineSeconds does not count it."""


class FineTuneJob(Resource):
    """One fine-tuning run. Once finished it never runs again."""

    kind: Literal["FineTuneJob"] = "FineTuneJob"
    spec: FineTuneJobSpec
    """What the user wants."""
    status: FineTuneJobStatus | None = None
    """What the operator observed."""
