"""What a model must reach before it is published."""

from typing import Literal

from pydantic import Field, model_validator

from finetune_api.base import Schema, rule, schema_with
from finetune_api.text_forms import ModelName


class Gate(Schema):
    """A fixed bound (`operator`, `value`) or a comparison with another model (`baseline`)."""

    model_config = schema_with(
        x_kubernetes_validations=[
            rule(
                "has(self.value) != has(self.baseline)",
                "set operator and value for a fixed bound, or baseline and maxRegression for a comparison",
            ),
            rule("has(self.operator) == has(self.value)", "operator and value belong together"),
        ]
    )
    metric: str = Field(max_length=64)
    """A metric of the task."""
    operator: Literal[">=", ">", "<=", "<"] | None = None
    """How value bounds the metric."""
    value: float | None = None
    """The bound."""
    baseline: Literal["Deployed", "Trained"] | None = Field(
        None,
        description="Deployed compares with the version that the ModelDeployment serves now, and passes when there is "
        "none; Trained compares what postprocess made with the model as it was trained.",
    )
    max_regression: float = Field(0.0, ge=0, description="How much worse than the baseline is still accepted.")

    @model_validator(mode="after")
    def one_kind(self) -> "Gate":
        if (self.value is None) == (self.baseline is None):
            raise ValueError("set operator and value for a fixed bound, or baseline for a comparison")
        if (self.operator is None) != (self.value is None):
            raise ValueError("operator and value belong together; set both")
        return self


class Evaluation(Schema):
    """Evaluated on the test data, else on the validation data: the model, or what the last step of postprocess made."""

    gate: list[Gate] = Field(default_factory=list, max_length=32)
    """All must pass, or nothing is published."""
    top_k: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="Recommendation: items that the server answers with, and places of the ranking that count for the "
        "metrics, whose names end with it: hitRate20, ndcg20. Default 10.",
    )


class Publish(Schema):
    """Record the result as a ModelVersion."""

    model_name: ModelName
    """The model that this becomes a version of."""
    approval: Literal["Automatic", "Manual"] = "Automatic"
    """Manual waits for the annotation finetune-operator.io/approved=true on the ModelVersion."""
