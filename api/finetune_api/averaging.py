"""The mean of the weights of several models."""

from pydantic import Field, model_validator

from finetune_api.base import Schema, rule, schema_with
from finetune_api.sources import Source

DEFAULT_CHECKPOINTS = 3
AVERAGED_FORMATS = ("Full", "Adapter")
ONE_KIND = "checkpoints and models are averages of two kinds; remove one of them"
GREEDY_OF_MODELS = "greedyBy chooses among models: set models, or remove it"


class Average(Schema):
    """Take the mean of weights: a whole model.

    Of the last checkpoints of the training (Kaddour 2022, arXiv:2209.14981; Izmailov et al. 2018, arXiv:1803.05407), or
    of models that were trained from the same base (model soups, Wortsman et al. 2022, arXiv:2203.05482). Adapters are
    merged into their base model one by one and then averaged: the mean of products is not the product of the means of
    their factors.
    """

    model_config = schema_with(
        x_kubernetes_validations=[
            rule("!has(self.checkpoints) || !has(self.models)", ONE_KIND),
            rule("!has(self.greedyBy) || has(self.models)", GREEDY_OF_MODELS),
        ]
    )
    checkpoints: int | None = Field(
        None,
        ge=2,
        le=100,
        description="How many: that of the finished training, and those before it at multiples of "
        "checkpoint.everySteps. They are kept for it besides checkpoint.keep. Default 3, where models is not set.",
    )
    models: list[Source] | None = Field(
        None,
        min_length=1,
        max_length=16,
        description="Artifacts of this trainer to average with the model of this job: modelversion://NAME, or folders. "
        "For the same task, with the same classes, and trained from the same base.",
    )
    greedy_by: str | None = Field(
        None,
        max_length=64,
        description="A metric on validation data. Best first, a model is taken up only if the mean does not get worse "
        "by it (greedy soup). Unset: all are.",
    )

    @property
    def of_checkpoints(self) -> int:
        """How many; 0 when it averages models."""
        return 0 if self.models else self.checkpoints or DEFAULT_CHECKPOINTS

    @model_validator(mode="after")
    def one_kind(self) -> "Average":
        if self.checkpoints is not None and self.models is not None:
            raise ValueError(ONE_KIND)
        if self.greedy_by is not None and self.models is None:
            raise ValueError(GREEDY_OF_MODELS)
        return self
