"""Learning from the answers of a trained model, beside or instead of the labels."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, model_validator

from finetune_api.base import Schema, rule, schema_with
from finetune_api.metrics import Task
from finetune_api.sources import Source

CLASSIFYING: Task = "TextClassification"
WRITING: tuple[Task, ...] = ("TextGeneration", "Seq2Seq")
"""Learn from the teacher's distribution of every token."""
DISTILLED_TASKS: tuple[Task, ...] = (CLASSIFYING, *WRITING)
TEACHING_FORMATS: tuple[str, ...] = ("Full", "Quantized", "Onnx")
"""What answers by itself: an adapter would need its base model too."""
NOT_DISTILLED = f"training.distillation is for {', '.join(DISTILLED_TASKS)}; remove it"
NO_MIXTURE = "teacherShare is that of divergence JensenShannon: set divergence to JensenShannon, or remove teacherShare"


class Distillation(Schema):
    """Knowledge distillation (Hinton et al. 2015, arXiv:1503.02531): `weight` × T² × the divergence of student and
    teacher at temperature T, and the rest of the loss is that of the labels."""

    model_config = schema_with(
        x_kubernetes_validations=[rule("self.divergence == 'JensenShannon' || !has(self.teacherShare)", NO_MIXTURE)]
    )
    teacher: Source = Field(
        description="TextClassification: an artifact of this trainer with the same classes and no base beside it, "
        "modelversion://NAME or its folder; it may be larger, of another architecture, and have another tokenizer. "
        "TextGeneration and Seq2Seq: such an artifact, or any pre-trained model, with the student's vocabulary.",
    )
    temperature: float = Field(
        2.0, gt=0, le=100, description="Above 1, what the teacher holds for less likely counts for more."
    )
    weight: float = Field(0.5, gt=0, le=1, description="Share of the teacher in the loss; 1 leaves the labels out.")
    divergence: Literal["ForwardKL", "ReverseKL", "JensenShannon"] = Field(
        "ForwardKL",
        description="ForwardKL, of the teacher from the student, covers all that the teacher holds for likely; "
        "ReverseKL keeps to what it holds for likeliest (Gu et al. 2024, arXiv:2306.08543); JensenShannon lies between "
        "(Agarwal et al. 2024, arXiv:2306.13649, eq. 1).",
    )
    teacher_share: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="JensenShannon: the teacher's share of the mixture that both are compared with. Default 0.5.",
    )

    @model_validator(mode="after")
    def share_of_a_mixture(self) -> "Distillation":
        if self.teacher_share is not None and self.divergence != "JensenShannon":
            raise ValueError(NO_MIXTURE)
        return self


def undistillable(task: Task, distillation: Distillation | None) -> Iterator[str]:
    """Why a task cannot learn from a teacher."""
    if distillation and task not in DISTILLED_TASKS:
        yield f"{NOT_DISTILLED} (got {task})"


def distillation_rule() -> dict[str, str]:
    """The same as a CEL rule of a FineTuneJob's spec."""
    return rule(f"!has(self.training.distillation) || self.task in {list(DISTILLED_TASKS)}", NOT_DISTILLED)
