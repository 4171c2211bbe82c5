"""Weights that are set to zero, and parts of a model that are taken out."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, model_validator

from finetune_api.base import Schema, rule, schema_with
from finetune_api.metrics import Task

PARTS = ("heads", "neurons", "layers")
"""Fields of the pattern Structured that say how much of a kind of part goes."""
STRUCTURED_TASKS: tuple[Task, ...] = (
    "ImageClassification",
    "QuestionAnswering",
    "RewardModeling",
    "TextClassification",
    "TextGeneration",
    "TokenClassification",
)
"""Tasks of one transformer whose loss on a training example is one pass."""
SPARSITY_IS_FOR = (
    "sparsity is for pattern Unstructured: TwoOfFour always is 0.5, and Structured has heads, neurons and layers; "
    "remove it"
)
PARTS_ARE_FOR = f"{', '.join(PARTS)} and calibrationExamples are for pattern Structured; set it, or remove them"
PARTS_ARE_MISSING = "pattern Structured removes nothing by itself: set heads, neurons or layers"
_ANY_PART = " || ".join(f"has(self.{part})" for part in PARTS)


class Prune(Schema):
    """Leave out what matters least.

    Unstructured and TwoOfFour set the smallest weights of the linear layers to zero (magnitude pruning, Han et al.
    2015, arXiv:1506.02626). Zeroes take as much room and time as other numbers, unless something uses them: compressed
    transfer, or the sparse tensor cores of GPUs for the pattern TwoOfFour.

    Structured takes whole parts out, so the model is smaller and faster, and its config.json says the new sizes. Which
    ones is decided on training examples.
    """

    model_config = schema_with(
        x_kubernetes_validations=[
            rule("self.pattern == 'Unstructured' || !has(self.sparsity)", SPARSITY_IS_FOR),
            rule(
                f"self.pattern == 'Structured' || !({_ANY_PART} || has(self.calibrationExamples))",
                PARTS_ARE_FOR,
            ),
            rule(f"self.pattern != 'Structured' || {_ANY_PART}", PARTS_ARE_MISSING),
        ]
    )
    sparsity: float | None = Field(
        None, gt=0, lt=1, description="Share of the weights set to zero, over all linear layers together. Default 0.3."
    )
    pattern: Literal["Unstructured", "TwoOfFour", "Structured"] = Field(
        "Unstructured",
        description="TwoOfFour sets the two smallest of each four neighbours to zero; Structured takes out heads, "
        "neurons or layers.",
    )
    heads: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Structured: share of the attention heads that every layer loses; of the key-value heads, each "
        "with its queries, where several queries share one. Those go whose outputs the loss depends on least (Michel "
        "et al. 2019, arXiv:1905.10650).",
    )
    neurons: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Structured: share of the hidden units that the MLP of every layer loses, by the same measure "
        "(first-order Taylor, Molchanov et al. 2019, arXiv:1906.10771).",
    )
    layers: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Structured: share of the layers that go: those that change their input's direction least (block "
        "influence, Men et al. 2024, arXiv:2403.03853).",
    )
    calibration_examples: int | None = Field(
        None, ge=1, le=4096, description="Training examples that Structured looks at. Default 128."
    )

    @property
    def parts(self) -> dict[str, float]:
        """Shares that are set, by field."""
        return {name: share for name in PARTS if (share := getattr(self, name)) is not None}

    @model_validator(mode="after")
    def fields_of_the_pattern(self) -> "Prune":
        if self.sparsity is not None and self.pattern != "Unstructured":
            raise ValueError(SPARSITY_IS_FOR)
        if self.pattern == "Structured" and not self.parts:
            raise ValueError(PARTS_ARE_MISSING)
        if self.pattern != "Structured" and (self.parts or self.calibration_examples is not None):
            raise ValueError(PARTS_ARE_FOR)
        return self


def pruning_problems(prune: Prune, task: Task) -> Iterator[str]:
    """Why no model of a task can be pruned so, with the mend."""
    if prune.pattern == "Structured" and task not in STRUCTURED_TASKS:
        yield f"pattern Structured is for {', '.join(STRUCTURED_TASKS)}, not {task}; set Unstructured"
