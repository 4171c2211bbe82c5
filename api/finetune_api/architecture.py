"""Models that are made from the data, rather than trained further."""

from pydantic import Field, model_validator

from finetune_api.base import Schema, rule, schema_with

ONE_ARCHITECTURE = "set exactly one of matrixFactorization, neuralCollaborativeFiltering"


class MatrixFactorization(Schema):
    """A vector and a bias for each user and item; a score is their product (Koren et al. 2009)."""

    factors: int = Field(32, ge=1, le=4096, description="Length of the vectors.")


class NeuralCollaborativeFiltering(Schema):
    """NeuMF (He et al. 2017, arXiv:1708.05031): the product of two vectors, beside a network that reads two others."""

    factors: int = Field(32, ge=1, le=4096, description="Length of the vectors that are multiplied.")
    layers: list[int] = Field(
        default_factory=lambda: [64, 32, 16],
        min_length=1,
        max_length=16,
        description="Widths of the network's layers. The vectors that it reads are half as long as the first is wide.",
    )

    @model_validator(mode="after")
    def layers_have_a_width(self) -> "NeuralCollaborativeFiltering":
        if any(not 2 <= width <= 65536 for width in self.layers):
            raise ValueError(f"layers {self.layers}: each must be from 2 to 65536 wide")
        return self


class Architecture(Schema):
    """What is made: exactly one."""

    model_config = schema_with(
        x_kubernetes_validations=[
            rule("has(self.matrixFactorization) != has(self.neuralCollaborativeFiltering)", ONE_ARCHITECTURE)
        ]
    )
    matrix_factorization: MatrixFactorization | None = None
    neural_collaborative_filtering: NeuralCollaborativeFiltering | None = None
    negatives: int = Field(
        4,
        ge=1,
        le=1024,
        description="Without ratings: items that are drawn anew beside each interaction each time it comes, which the "
        "user is taken not to want.",
    )

    @model_validator(mode="after")
    def exactly_one(self) -> "Architecture":
        if (self.matrix_factorization is None) == (self.neural_collaborative_filtering is None):
            raise ValueError(ONE_ARCHITECTURE)
        return self
