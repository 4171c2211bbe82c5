"""Whether a converted model answers as the one that it was made from."""

from typing import Any

import torch

from finetune_trainer.data.batches import Batch
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.tasks.task import Task

OUTPUTS = {"QuestionAnswering": ("start_logits", "end_logits"), "ObjectDetection": ("logits", "pred_boxes")}
"""What models of a task give; those of others give `logits`."""


def outputs_of(task: Task) -> tuple[str, ...]:
    """Names of what a model of the task gives."""
    return OUTPUTS.get(task.name, ("logits",))


def compared(task: Task, model: Any, converted: Any, examples: list[Batch], tolerance: float, step: str) -> float:
    """The greatest difference of an output, over all examples.

    Raises:
        ConfigurationError: It is beyond `tolerance`.
    """
    with torch.no_grad():
        difference = max(
            float((task.outputs(model, batch) - task.outputs(converted, batch)).abs().max()) for batch in examples
        )
    return within(difference, tolerance, step)


def within(difference: float, tolerance: float, step: str) -> float:
    """The difference. Raises ConfigurationError where it is beyond `tolerance`."""
    if not difference <= tolerance:
        raise ConfigurationError(
            f"postprocess.{step}: the converted model answers otherwise: its logits differ by {difference:.3g}, and "
            f"tolerance allows {tolerance:g}; raise tolerance if the gates on its metrics suffice, or remove the step"
        )
    return difference
