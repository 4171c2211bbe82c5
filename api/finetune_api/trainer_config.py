"""job.json: what `finetune-trainer --config` reads, the validated part of a FineTuneJob."""

from pydantic import Field, model_validator

from finetune_api.base import Schema
from finetune_api.dataset import Dataset
from finetune_api.distributed import Distributed
from finetune_api.engine_support import unshardable
from finetune_api.errors import Problems
from finetune_api.method import Method
from finetune_api.method_support import unsupported
from finetune_api.metrics import DEFAULT_TOP_K, Task
from finetune_api.model_reference import ModelReference, origin_problems
from finetune_api.multi_task import multi_task_problems
from finetune_api.objectives import length_problems
from finetune_api.postprocess import PostprocessStep, averaging_problems, step_problems
from finetune_api.training import Checkpoint, Training


class JobIdentity(Schema):
    """Whose run it is."""

    namespace: str
    name: str
    uid: str
    attempt: int = Field(1, ge=1)


class TrainerConfig(Schema):
    """Everything the trainer needs; `checkpoint.storage` and `output` are final, no name is added to them."""

    job: JobIdentity
    model: ModelReference
    task: Task
    dataset: Dataset
    method: Method
    training: Training = Field(default_factory=Training)
    distributed: Distributed = Field(default_factory=Distributed)
    checkpoint: Checkpoint
    output: str
    hang_timeout_seconds: int | None = Field(None, ge=1)
    """`failurePolicy.hangTimeoutSeconds`."""
    postprocess: list[PostprocessStep] = Field(default_factory=list)
    top_k: int = DEFAULT_TOP_K
    """`evaluation.topK`."""

    @model_validator(mode="after")
    def method_is_supported(self) -> "TrainerConfig":
        supported = unsupported(self.method, self.task, self.training, self.distributed)
        sharded = unshardable(self.task, self.training, self.distributed)
        chain = step_problems(self.postprocess, self.method, self.task)
        averages = averaging_problems(self.postprocess, self.checkpoint)
        lengths = length_problems(self.task, self.dataset, self.training)
        subtasks = multi_task_problems(self.task, self.dataset, self.model)
        origin = origin_problems(self.task, self.model, self.training.precision)
        Problems.check((*origin, *subtasks, *supported, *sharded, *lengths, *chain, *averages))
        return self

    @property
    def max_length(self) -> int:
        """Longest example that the job allows, in the unit of its task."""
        return self.dataset.longest(self.task)
