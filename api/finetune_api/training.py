"""Hyper-parameters of the training loop, and how it is spread over processes."""

from typing import Literal

from pydantic import Field, model_validator

from finetune_api.base import Schema, rule, schema_with
from finetune_api.distillation import Distillation
from finetune_api.optimization import LossSpike, Optimizer, Plateau, Scheduler
from finetune_api.preference import Preference
from finetune_api.reinforcement import Reinforcement
from finetune_api.schedule_lengths import schedule_lengths_rules, schedule_problem
from finetune_api.sources import Storage

Precision = Literal["Float32", "BFloat16", "Float16"]

DECAY_ELSEWHERE = "decay is the last part of WarmupStableDecay: set scheduler to WarmupStableDecay, or remove decay"
PLATEAU_ELSEWHERE = "plateau belongs to ReduceOnPlateau: set scheduler to ReduceOnPlateau, or remove plateau"
FLOOR_OF_A_CONSTANT = "minLearningRate does nothing with scheduler Constant: remove it, or take another scheduler"


class EarlyStopping(Schema):
    """Stop when the validation metric no longer improves, and keep the best weights."""

    metric: str = Field("loss", max_length=64)
    """Metric of the validation data to watch."""
    patience: int = Field(3, ge=1, le=1000, description="Evaluations without improvement before the run ends.")


class Training(Schema):
    """The defaults suit LoRA on a small model; full fine-tuning wants a learning rate ten times smaller."""

    model_config = schema_with(
        x_kubernetes_validations=[
            rule("!(has(self.epochs) && has(self.maxSteps))", "set epochs or maxSteps, not both"),
            rule(
                "!has(self.microBatchSize) || self.batchSize % self.microBatchSize == 0",
                "batchSize must be a multiple of microBatchSize",
            ),
            rule("!has(self.decay) || self.scheduler == 'WarmupStableDecay'", DECAY_ELSEWHERE),
            rule("!has(self.plateau) || self.scheduler == 'ReduceOnPlateau'", PLATEAU_ELSEWHERE),
            rule("self.minLearningRate < self.learningRate", "minLearningRate must be below learningRate"),
            *schedule_lengths_rules(),
            rule("self.minLearningRate == 0.0 || self.scheduler != 'Constant'", FLOOR_OF_A_CONSTANT),
        ]
    )
    epochs: float | None = Field(
        None, gt=0, le=10000, description="Passes over the data. Default 3, unless maxSteps is set."
    )
    max_steps: int | None = Field(None, ge=1, description="Optimizer steps, instead of epochs.")
    batch_size: int = Field(
        32,
        ge=1,
        le=1048576,
        description="Examples per optimizer step, over all processes. ReinforcementLearning: prompts that completions "
        "are written for at a time.",
    )
    micro_batch_size: int | None = Field(
        None, ge=1, description="Examples in one forward pass of one process. Default: batchSize / processes."
    )
    learning_rate: float = Field(2e-4, gt=0, le=10)
    """Peak learning rate, after warm-up."""
    scheduler: Scheduler = Field(
        "Linear",
        description="How the learning rate falls after warm-up. WarmupStableDecay keeps it until the last part of the "
        "run; ReduceOnPlateau lowers it when the validation metric stops improving.",
    )
    warmup: float = Field(0.0, ge=0, description="Steps of linear warm-up; below 1, a share of all steps.")
    decay: float | None = Field(
        None,
        gt=0,
        description="WarmupStableDecay: steps of the linear fall at the end; below 1, a share of all steps. "
        "Default 0.2.",
    )
    plateau: Plateau | None = Field(None, description="ReduceOnPlateau: what to watch and how far to go down.")
    min_learning_rate: float = Field(0.0, ge=0, le=10, description="The schedule ends here, and never goes below.")
    optimizer: Optimizer = Field(
        "AdamW",
        description="AdamW8bit (bitsandbytes) and Adafactor keep less state; Muon orthogonalises the updates of hidden "
        "matrices and leaves the rest to AdamW. Adafactor takes learningRate relative to the size of the weights.",
    )
    weight_decay: float = Field(0.0, ge=0, le=1, description="Decoupled L2 on weight matrices alone.")
    l1: float = Field(
        0.0, ge=0, le=1, description="Weight of the sum of absolute values of trained matrices in the objective."
    )
    dropout: float | None = Field(
        None, ge=0, lt=1, description="Of the model's own layers, in place of what its config.json says."
    )
    layerwise_learning_rate_decay: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="The learning rate of each layer is that of the layer above it times this; the head has the full "
        "one.",
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target spread over all classes."""
    max_grad_norm: float = Field(1.0, ge=0, description="0 turns clipping off.")
    precision: Precision = Field(
        "Float32",
        description="What to compute in; the trained weights stay in float32. Float16, for GPUs without bfloat16, "
        "scales the loss and leaves out steps whose gradients overflow.",
    )
    packing: bool = Field(False, description="TextGeneration: join examples into full rows without mixing them.")
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations in the backward pass to save memory."
    )
    compile: bool = Field(
        False,
        description="Compile the model's layers with torch.compile. Takes minutes at the start, and a compiler in the "
        "trainer's image.",
    )
    seed: int = Field(0, ge=0)
    """The same seed, data and world size give the same run."""
    evaluate_every_steps: int | None = Field(
        None, ge=1, description="Default: once an epoch, when there is validation data."
    )
    log_every_steps: int = Field(10, ge=1)
    """Steps between two log lines and progress reports."""
    early_stopping: EarlyStopping | None = None
    """Stop when validation no longer improves."""
    preference: Preference | None = Field(None, description="PreferenceOptimization: the loss. Default: DPO.")
    distillation: Distillation | None = None
    """Learn from a trained model too."""
    reinforcement: Reinforcement | None = Field(
        None, description="ReinforcementLearning: what completions are rewarded for, and how the model learns from it."
    )
    loss_spike: LossSpike | None = Field(
        None, description="End the run when the loss has jumped up. A loss that is not a number always ends it."
    )

    @property
    def updates_per_batch(self) -> int:
        """Optimizer steps that learn from the same batch of data."""
        return self.reinforcement.updates if self.reinforcement else 1

    @model_validator(mode="after")
    def schedule_is_consistent(self) -> "Training":
        if self.decay is not None and self.scheduler != "WarmupStableDecay":
            raise ValueError(DECAY_ELSEWHERE)
        if self.plateau is not None and self.scheduler != "ReduceOnPlateau":
            raise ValueError(PLATEAU_ELSEWHERE)
        if problem := schedule_problem(self.warmup, self.decay, self.scheduler, self.max_steps, "maxSteps"):
            raise ValueError(problem)
        if self.min_learning_rate >= self.learning_rate:
            raise ValueError(
                f"minLearningRate ({self.min_learning_rate:g}) must be below learningRate ({self.learning_rate:g})"
            )
        if self.min_learning_rate and self.scheduler == "Constant":
            raise ValueError(FLOOR_OF_A_CONSTANT)
        return self

    @model_validator(mode="after")
    def consistent(self) -> "Training":
        if self.epochs is not None and self.max_steps is not None:
            raise ValueError("epochs and maxSteps are both set; keep one of them")
        if self.micro_batch_size and self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batchSize ({self.batch_size}) must be a multiple of microBatchSize ({self.micro_batch_size})"
            )
        return self


class Checkpoint(Schema):
    """When a verified checkpoint is written, where, and how many are kept."""

    model_config = schema_with(
        x_kubernetes_validations=[
            rule(
                "!(has(self.everySteps) && has(self.everyMinutes))",
                "set everySteps or everyMinutes, not both",
            ),
        ]
    )
    storage: Storage
    """Where they go."""
    every_steps: int | None = Field(None, ge=1)
    """Optimizer steps between checkpoints."""
    every_minutes: float | None = Field(None, gt=0, description="Default 10, unless everySteps is set.")
    keep: int = Field(2, ge=1, le=1000, description="Newest checkpoints to keep; older ones are deleted.")

    @model_validator(mode="after")
    def one_interval(self) -> "Checkpoint":
        if self.every_steps is not None and self.every_minutes is not None:
            raise ValueError("everySteps and everyMinutes are both set; keep one of them")
        return self
