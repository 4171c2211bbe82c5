"""Whether a converted model answers as the one that it was made from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

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


def written_and_compared(
    task: Task,
    model: Any,
    reopened: Callable[[Path], Any],
    token_by_token: Callable[[Any], Tensor],
    examples: list[Batch],
    folder: Path,
    tolerance: float,
) -> float:
    """Writes what a server reads beside the graphs of a model that writes; returns the greatest difference of a logit,
    on whole examples and token by token.

    Raises:
        ConfigurationError: It is beyond `tolerance`.
    """
    model.config.save_pretrained(str(folder))
    model.generation_config.save_pretrained(str(folder))
    converted = reopened(folder)
    whole = compared(task, model, converted, examples, tolerance, "onnx")
    difference = float((token_by_token(model) - token_by_token(converted)).abs().max())
    return max(whole, within(difference, tolerance, "onnx"))


def within(difference: float, tolerance: float, step: str) -> float:
    """The difference. Raises ConfigurationError where it is beyond `tolerance`."""
    if not difference <= tolerance:
        raise ConfigurationError(
            f"postprocess.{step}: the converted model answers otherwise: its logits differ by {difference:.3g}, and "
            f"tolerance allows {tolerance:g}; raise tolerance if the gates on its metrics suffice, or remove the step"
        )
    return difference
