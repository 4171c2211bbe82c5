"""Learning from the answers of a trained model, beside or instead of the labels."""

from collections.abc import Iterator

from pydantic import Field

from finetune_api.base import Schema, rule
from finetune_api.metrics import Task
from finetune_api.sources import Source

DISTILLED_TASK: Task = "TextClassification"
TEACHING_FORMATS: tuple[str, ...] = ("Full", "Quantized", "Onnx")
"""What answers by itself: an adapter would need its base model too."""
ONLY_CLASSIFICATION = f"training.distillation is for {DISTILLED_TASK}; remove it"


class Distillation(Schema):
    """Knowledge distillation (Hinton et al. 2015, arXiv:1503.02531): `weight` × T² × KL(teacher ‖ student) at
    temperature T, and the rest of the loss is that of the labels."""

    teacher: Source = Field(
        description="An artifact of this trainer with the same classes and no base beside it: modelversion://NAME, or "
        "its folder. It may be larger, of another architecture, and have another tokenizer."
    )
    temperature: float = Field(
        2.0, gt=0, le=100, description="Above 1, the classes that the teacher holds for less likely count for more."
    )
    weight: float = Field(0.5, gt=0, le=1, description="Share of the teacher in the loss; 1 leaves the labels out.")


def undistillable(task: Task, distillation: Distillation | None) -> Iterator[str]:
    """Why a task cannot learn from a teacher."""
    if distillation and task != DISTILLED_TASK:
        yield f"{ONLY_CLASSIFICATION} (got {task})"


def distillation_rule() -> dict[str, str]:
    """The same as a CEL rule of a FineTuneJob's spec."""
    return rule(f"!has(self.training.distillation) || self.task == '{DISTILLED_TASK}'", ONLY_CLASSIFICATION)
