"""`training.preference`: how a model learns from preferences."""

from typing import Literal

from pydantic import Field, model_validator

from finetune_api.base import Schema, rule, schema_with

WEIGHTS_ELSEWHERE = "desirableWeight and undesirableWeight belong to KTO: set loss to KTO, or remove them"


class Preference(Schema):
    """How a model learns from preferences, without a reward model."""

    model_config = schema_with(
        x_kubernetes_validations=[
            rule("self.loss == 'KTO' || !(has(self.desirableWeight) || has(self.undesirableWeight))", WEIGHTS_ELSEWHERE)
        ]
    )
    loss: Literal["DPO", "KTO"] = Field(
        "DPO",
        description="DPO learns from pairs (Rafailov et al. 2023, arXiv:2305.18290), KTO from single completions that "
        "are good or bad (Ethayarajh et al. 2024, arXiv:2402.01306).",
    )
    beta: float = Field(
        0.1, gt=0, le=100, description="How dear it is to move away from the model as it was; more keeps it closer."
    )
    desirable_weight: float | None = Field(
        None, gt=0, description="KTO: weight of good completions in the loss. Default 1."
    )
    undesirable_weight: float | None = Field(
        None, gt=0, description="KTO: weight of bad completions in the loss. Default 1."
    )

    @model_validator(mode="after")
    def weights_of_kto(self) -> "Preference":
        if self.loss != "KTO" and (self.desirable_weight is not None or self.undesirable_weight is not None):
            raise ValueError(WEIGHTS_ELSEWHERE)
        return self
