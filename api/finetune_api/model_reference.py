"""The model that a job starts from."""

from collections.abc import Iterator

from pydantic import Field, model_validator

from finetune_api.architecture import Architecture
from finetune_api.base import Schema, rule, schema_with
from finetune_api.sources import Source

ONE_ORIGIN = "set source for a pre-trained model, or architecture for one that is made from the data"
MADE_FROM_DATA = "Recommendation"
NO_PRECISION = (
    "training.precision: matrixFactorization multiplies no matrices, so it computes in Float32 whatever this says; "
    "remove it, or take neuralCollaborativeFiltering"
)


class ModelReference(Schema):
    """A pre-trained model in Hugging Face's folder layout, or what is to be made from the data."""

    model_config = schema_with(
        x_kubernetes_validations=[
            rule("has(self.source) != has(self.architecture)", ONE_ORIGIN),
            rule("!has(self.architecture) || !has(self.revision)", "revision is of a source; remove it"),
        ]
    )
    source: Source | None = None
    revision: str | None = Field(
        None,
        max_length=128,
        description="Commit, tag or branch of an hf:// source. Default: the main branch.",
    )
    trust_remote_code: bool = Field(
        False,
        description="Run Python code that comes with the model, where the runtime allows it (allowTrustRemoteCode). "
        "Leave it off for models you do not own.",
    )
    architecture: Architecture | None = Field(
        None, description="Of a Recommendation model, whose weights belong to the very users and items of the data."
    )

    @model_validator(mode="after")
    def one_origin(self) -> "ModelReference":
        if (self.source is None) == (self.architecture is None):
            raise ValueError(ONE_ORIGIN)
        if self.architecture is not None and self.revision is not None:
            raise ValueError("revision is of a source; remove it")
        return self

    @property
    def sources(self) -> list[str]:
        """Where it is read from: one place or none."""
        return [] if self.source is None else [self.source]

    @property
    def title(self) -> str:
        """For people."""
        return self.source or "made from the data"


def origin_problems(task: str, model: ModelReference, precision: str) -> Iterator[str]:
    """Why the task cannot start from it, or what would do nothing with it, and the mend."""
    if task == MADE_FROM_DATA and model.architecture is None:
        yield "model.source: a Recommendation model is made from the data; set model.architecture instead"
    if task != MADE_FROM_DATA and model.architecture is not None:
        yield f"model.architecture is for Recommendation, not {task}; set model.source to a pre-trained model"
    factors = model.architecture.matrix_factorization if model.architecture else None
    if factors is not None and precision != "Float32":
        yield NO_PRECISION


def origin_rules() -> list[dict[str, str]]:
    """The same as CEL rules of a FineTuneJob's spec."""
    return [
        rule(
            f"(self.task == '{MADE_FROM_DATA}') == has(self.model.architecture)",
            f"task {MADE_FROM_DATA} wants model.architecture, and every other task model.source",
        ),
        rule(
            "!(has(self.model.architecture) && has(self.model.architecture.matrixFactorization) && "
            "self.training.precision != 'Float32')",
            NO_PRECISION,
        ),
    ]
