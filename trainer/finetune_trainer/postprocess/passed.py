"""Where a training passed through: the checkpoints that can be averaged after it."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune_api.averaging import Average
from finetune_api.manifest import ManifestError
from finetune_api.postprocess import PostprocessStep
from finetune_api.trainer_config import TrainerConfig
from finetune_trainer.checkpoint.backend import step_of
from finetune_trainer.checkpoint.opening import open_backend
from finetune_trainer.checkpoint.retention import Series
from finetune_trainer.checkpoint.state import read_state
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.loop.optimizer import trained_parameters
from finetune_trainer.methods.adaptation import Adaptation
from finetune_trainer.parallel.strategy import load_parameters
from finetune_trainer.reinforcement.value_head import remove_value_head

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Passed:
    """The checkpoints of a finished training, as models."""

    config: TrainerConfig
    make: Callable[[], Adaptation]
    """The model as it was before the first step."""
    last_step: int
    scratch: Path

    def models(self, average: Average) -> Iterator[tuple[int, Adaptation]]:
        """Steps and models, newest first, one at a time. Unsound checkpoints are left out, with a line in the log."""
        wanted = series_of(self.config, average)
        backend = open_backend(self.config.checkpoint.storage, self.scratch)
        for name in wanted.of(backend.names(), self.last_step):
            try:
                folder, _ = backend.open(name)
            except ManifestError as error:
                log.warning("checkpoint %s is left out of the average: %s", backend.uri(name), error)
                continue
            state = read_state(folder, step_of(name), rank=0)
            adaptation = self.make()
            load_parameters(trained_parameters(adaptation.model), state.weights)
            adaptation.restore(state.method)
            remove_value_head(adaptation.model)
            yield step_of(name), adaptation


def series_of(config: TrainerConfig, average: Average) -> Series:
    """The checkpoints to keep for it."""
    assert config.checkpoint.every_steps is not None, "validation requires it"
    return Series(config.checkpoint.every_steps, average.of_checkpoints)


def average_of(steps: Sequence[PostprocessStep]) -> Average | None:
    """How a job averages its checkpoints, if it does; it comes first."""
    average = steps[0].average if steps else None
    return average if average and average.of_checkpoints else None


def check_average(config: TrainerConfig, total_steps: int) -> None:
    """Raises ConfigurationError when the run is too short for the checkpoints that are to be averaged."""
    average = average_of(config.postprocess)
    if average is None:
        return
    every = series_of(config, average).every
    saved = (total_steps - 1) // every + 1
    if saved < average.of_checkpoints:
        raise ConfigurationError(
            f"postprocess[0].average.checkpoints: {total_steps} steps with a checkpoint every {every} make {saved}, "
            f"not {average.of_checkpoints}; lower it, or checkpoint.everySteps"
        )
