"""What a training pod tells the operator: progress while it runs, one JSON line when it ends.

A trainer may be newer than the operator, and a model may fail to have a number: neither makes a report unreadable.
"""

import math
from itertools import islice
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from finetune_api.base import Schema
from finetune_api.masking import mask
from finetune_api.postprocess import MAX_STEPS, ArtifactFormat

MAX_REPORT_BYTES = 64 * 1024
MAX_STRAGGLERS = 8
MAX_TERMINATION_BYTES = 4096
"""The kubelet cuts a termination message there, and below where a pod has more than three containers."""
MAX_POD_TERMINATION_BYTES = 12 * 1024
"""Of all containers of a pod, init containers too; each gets the same share (kubelet, `normalizeStatus`)."""


CAUSED_BY, WHILE_HANDLING = "caused by", "while handling"
"""How a last word goes on with the exceptions that came before the one that it begins with: a line each."""
MAX_METRICS = 64
Outcome = Literal[
    "Succeeded", "ConfigurationError", "DataError", "ExportError", "OutOfMemory", "Preempted", "Hang", "Crash"
]
EvaluatedOn = Literal["test", "validation", "none"]
Stage = Literal["Preparing", "Training", "Evaluating", "Exporting"]
Told = Annotated[str, AfterValidator(mask)]
"""Words of a process, without what looks like a secret: they reach the status of the job."""
MetricName = Annotated[str, Field(max_length=64)]


class Report(Schema):
    """A part of what a pod tells. An operator that is older than the trainer passes over what it does not know."""

    model_config = ConfigDict(extra="ignore")


def _first_numbers(value: Any) -> Any:
    """JSON has no NaN: what comes as null, or as `"NaN"`, is not a number. More than the limit is left out."""
    if not isinstance(value, dict):
        return value
    kept = islice(value.items(), MAX_METRICS)
    return {name: math.nan if number is None else number for name, number in kept}


Metrics = Annotated[dict[str, float], BeforeValidator(_first_numbers), Field(default_factory=dict)]
"""Values by name, the first `MAX_METRICS`; one that the evaluation could not put a number on is NaN or infinite."""


def _known(value: Any) -> Any:
    """Less what is no number, which a status cannot hold."""
    if not isinstance(value, dict):
        return value
    odd = (None, math.inf, -math.inf)
    return {name: number for name, number in value.items() if number not in odd and number == number}


def _known_data(value: Any) -> Any:
    """Nothing depends on it that would be worth a result."""
    return value if not isinstance(value, str) or value in get_args(EvaluatedOn) else "none"


def _known_stage(value: Any) -> Any:
    """None for one that only a newer trainer has: what else it reports is not to be lost for it."""
    return value if not isinstance(value, str) or value in get_args(Stage) else None


class ReportedCheckpoint(Report):
    """A checkpoint whose files were verified after writing."""

    step: int = Field(ge=0)
    uri: str = Field(max_length=1024)


class ReportedData(Report):
    """What became of the data, in numbers."""

    train: int = Field(0, ge=0)
    validation: int = Field(0, ge=0)
    test: int = Field(0, ge=0)
    dropped: dict[str, int] = Field(default_factory=dict, max_length=32)
    truncated: int = Field(0, ge=0)
    split: int = Field(0, ge=0, description="Examples that became several pieces or windows.")
    unscored: int = Field(
        0, ge=0, description="Held-out examples of which maxLength leaves nothing to score; they count as wrong."
    )
    redacted: int = Field(0, ge=0)


class ReportedStraggler(Report):
    """A rank that holds the others up."""

    rank: int = Field(ge=0)
    slowdown: float = Field(gt=0)
    """Its own time for a step, as a multiple of the others'."""


class ReportedPreflight(Report):
    """What pod 0 found of model, data and memory before it loaded PyTorch; the condition Preflight says the same."""

    status: Literal["True", "False", "Unknown"]
    reason: str = Field(pattern="^[A-Z][A-Za-z]*$", max_length=64)
    """`Passed`, `MemoryShort`, `StorageUnavailable`, or the outcome that the attempt ends with."""
    message: Told = Field("", max_length=1024)


class ProgressReport(Report):
    """Posted by rank 0 to `FINETUNE_PROGRESS_URL` with its projected token."""

    attempt: int = Field(ge=1)
    stage: Annotated[Stage | None, BeforeValidator(_known_stage)] = "Training"
    """None: one that this operator does not know."""
    step: int = Field(0, ge=0)
    total_steps: int = Field(0, ge=0)
    epoch: float = Field(0.0, ge=0)
    loss: float | None = None
    learning_rate: float | None = None
    tokens_per_second: float | None = Field(None, ge=0)
    eta_seconds: int | None = Field(None, ge=0)
    resumed_from_step: int | None = Field(None, ge=0)
    stragglers: list[ReportedStraggler] = Field(default_factory=list, max_length=MAX_STRAGGLERS)
    checkpoint: ReportedCheckpoint | None = None
    data: ReportedData | None = None
    preflight: ReportedPreflight | None = None
    best_metric: Annotated[dict[MetricName, float] | None, BeforeValidator(_known)] = Field(None, max_length=8)


STEP_DIGITS = 6
"""Behind the point of a metric in a `StepResult`: several of them share the little room of a termination message."""
STEP_ROUNDING = 10.0**-STEP_DIGITS
"""By which two metrics may seem to differ that were equal before each was rounded."""


class StepResult(Report):
    """What a step of postprocess made; its URI follows from the name."""

    model_config = ConfigDict(ser_json_inf_nan="strings")

    name: str = Field(max_length=20)
    artifact_digest: str = Field(max_length=128)
    format: ArtifactFormat
    metrics: Metrics


class TrainingResult(Report):
    """What a finished run made."""

    model_config = ConfigDict(ser_json_inf_nan="strings")

    artifact_uri: str = Field(max_length=1024)
    artifact_digest: str = Field(max_length=128)
    format: ArtifactFormat = "Full"
    base_revision: str | None = Field(None, max_length=128)
    """Commit of the Hub model that the training started from."""
    metrics: Metrics
    not_computed: dict[str, Told] = Field(default_factory=dict, max_length=16)
    """Metrics of the task that this held-out data does not allow, and why."""
    evaluated_on: Annotated[EvaluatedOn, BeforeValidator(_known_data)] = "none"
    dataset_fingerprint: str = Field("", max_length=128)
    versions: dict[str, str] = Field(default_factory=dict, max_length=16)
    postprocess: list[StepResult] = Field(default_factory=list, max_length=MAX_STEPS)
    """What each step after the training made, in order."""


class RankStack(Report):
    """What a rank that made no progress was at."""

    rank: int = Field(ge=0)
    """Global rank of the process."""
    state: str = Field("", max_length=256)
    """Why it gave no stack: stopped, waiting in the kernel; empty when it did."""
    text: Told = Field("", max_length=2048)
    """Its main thread, most recent call first."""


class TerminationMessage(Report):
    """The last word of a process: one JSON line, at most 4 KiB, in the container's termination message."""

    outcome: Outcome
    message: Told = ""
    rank: int = 0
    step: int | None = None
    result: TrainingResult | None = None
    preflight: ReportedPreflight | None = None
    """Of pod 0, when it ended for what it found there."""
    stacks: list[RankStack] = Field(default_factory=list, max_length=16)
    """Of a hang: every rank of the pod."""

    @model_validator(mode="before")
    @classmethod
    def _without_a_newer_word(cls, told: Any) -> Any:
        """An outcome that is not known says no more than Crash does: exit code, message and result say the rest.

        Without any of them it is some program's JSON.
        """
        if not isinstance(told, dict) or not isinstance(word := told.get("outcome"), str) or word in get_args(Outcome):
            return told
        return told | {"outcome": "Crash"} if told.get("result") or told.get("message") else told
