"""`training.reinforcement`: how a model learns from rewards for what it writes."""

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from finetune_api.base import Schema, rule, schema_with
from finetune_api.sources import Source

KINDS = ("exactMatch", "pattern", "length", "model")
ONE_OF = f"set exactly one of {', '.join(KINDS)}"


def _expression(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern} is no regular expression: {error}") from None
    return pattern


class ExactMatch(Schema):
    """1 for a completion that is the expected text, else 0; blanks around either do not count."""

    column: str = Field("answer", max_length=128, description="Column of the data that holds the expected text.")
    extract: str | None = Field(
        None,
        max_length=512,
        description="Regular expression (Python's) for the part of the completion to compare: its last match, or the "
        "first group of that. Without a match the reward is 0.",
    )

    @field_validator("extract")
    @classmethod
    def is_an_expression(cls, pattern: str | None) -> str | None:
        return pattern if pattern is None else _expression(pattern)


class PatternReward(Schema):
    """1 for a completion in which a regular expression is found, else 0."""

    expression: str = Field(
        min_length=1, max_length=512, description="Python's; ^ and $ are the ends of the completion."
    )

    @field_validator("expression")
    @classmethod
    def is_an_expression(cls, pattern: str) -> str:
        return _expression(pattern)


class LengthReward(Schema):
    """1 for a completion of so many tokens; every token more or less costs its share of them, down to 0."""

    tokens: int = Field(ge=1, description="The end token counts.")


class ModelReward(Schema):
    """The score of a reward model."""

    source: Source
    """Artifact of a RewardModeling job."""


class Reward(Schema):
    """One thing that a completion is rewarded for."""

    model_config = schema_with(
        x_kubernetes_validations=[
            rule(f"[{', '.join(f'has(self.{kind})' for kind in KINDS)}].exists_one(chosen, chosen)", ONE_OF),
        ]
    )
    weight: float = Field(1.0, description="The reward is the sum of all, each times its weight.")
    exact_match: ExactMatch | None = None
    pattern: PatternReward | None = None
    length: LengthReward | None = None
    model: ModelReward | None = None

    @model_validator(mode="after")
    def exactly_one(self) -> "Reward":
        chosen = [kind for kind in KINDS if self.wire().get(kind) is not None]
        if len(chosen) != 1:
            raise ValueError(f"{ONE_OF}; got {', '.join(chosen) or 'none'}")
        return self


class Reinforcement(Schema):
    """Several completions of each prompt are written, rewarded and compared with each other."""

    algorithm: Literal["GRPO", "RLOO"] = Field(
        "GRPO",
        description="GRPO divides each advantage by the spread of its group, and pays for moving away by a term of the "
        "loss (Shao et al. 2024, arXiv:2402.03300). RLOO compares with the mean of the others, and takes the price out "
        "of the reward (Ahmadian et al. 2024, arXiv:2402.14740).",
    )
    rewards: list[Reward] = Field(min_length=1, max_length=8)
    """What completions are rewarded for."""
    group_size: int = Field(8, ge=2, le=1024, description="Completions of each prompt.")
    max_new_tokens: int = Field(256, ge=1, le=131072, description="Longest completion.")
    temperature: float = Field(1.0, gt=0, le=10, description="Of the sampling; less varies less.")
    beta: float = Field(
        0.04, ge=0, le=100, description="Price of moving away from the model as it was; 0 asks for no reference."
    )
