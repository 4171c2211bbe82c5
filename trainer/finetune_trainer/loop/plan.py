"""How many steps, and how a global batch becomes micro-batches: plain arithmetic, done once."""

import math
from dataclasses import dataclass

from finetune_api.training import Training
from finetune_trainer.errors import ConfigurationError

DEFAULT_EPOCHS = 3.0


@dataclass(frozen=True)
class StepPlan:
    """Sizes of the run. A step is one change of the weights, by one global batch."""

    total_steps: int
    steps_per_epoch: int
    world_size: int
    accumulation: int
    """Forward passes of one process in a step."""
    micro_batch_size: int
    evaluate_every: int
    updates: int = 1
    """Steps in a row that learn from the same batch of data."""

    def epoch_of(self, step: int) -> tuple[int, int]:
        """Epoch and place in it of the batch of step `step`, both counted from 0."""
        epoch, place = divmod(step, self.steps_per_epoch)
        return epoch, place // self.updates


def plan_steps(training: Training, rows: int, world_size: int) -> StepPlan:
    """The sizes that the job asks for.

    Raises:
        ConfigurationError: The global batch cannot be shared out evenly.
    """
    batch = training.batch_size
    if batch % world_size:
        raise ConfigurationError(
            f"training.batchSize ({batch}) must be a multiple of the number of processes ({world_size})"
        )
    own = batch // world_size
    micro = training.micro_batch_size or own
    if own % micro:
        raise ConfigurationError(
            f"training.batchSize ({batch}) must be a multiple of processes × training.microBatchSize "
            f"({world_size} × {micro})"
        )
    per_epoch = math.ceil(rows / batch) * training.updates_per_batch
    total = training.max_steps or math.ceil((training.epochs or DEFAULT_EPOCHS) * per_epoch)
    return StepPlan(
        total_steps=total,
        steps_per_epoch=per_epoch,
        world_size=world_size,
        accumulation=own // micro,
        micro_batch_size=micro,
        evaluate_every=training.evaluate_every_steps or per_epoch,
        updates=training.updates_per_batch,
    )
