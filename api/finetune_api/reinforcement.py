"""`training.reinforcement`: how a model learns from rewards for what it writes."""

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from finetune_api.base import Schema, rule, schema_with
from finetune_api.proximal import Ppo
from finetune_api.sources import Source

KINDS = ("exactMatch", "pattern", "length", "model")
ONE_OF = f"set exactly one of {', '.join(KINDS)}"
PPO_PASSES = 4
UPDATES = f"(has(self.passes) ? self.passes : (self.algorithm == 'PPO' ? {PPO_PASSES} : 1)) * self.miniBatches"
ALONE = "groupSize: GRPO and RLOO compare completions of the same prompt; set at least 2, or algorithm PPO"
PPO_ELSEWHERE = "ppo belongs to algorithm PPO: set algorithm to PPO, or remove ppo"
RLOO_ONCE = "RLOO learns from completions once: remove passes and miniBatches, or set algorithm to PPO or GRPO"
NOTHING_TO_CLIP = (
    "clipRange and ppo.valueClipRange do nothing when completions are learnt from once, by one step: remove them, or "
    "raise passes or miniBatches"
)


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
    """Several completions of each prompt are written, rewarded and compared with each other, or with what was
    expected of them."""

    model_config = schema_with(
        x_kubernetes_validations=[
            rule("self.algorithm == 'PPO' || self.groupSize >= 2", ALONE),
            rule("self.algorithm == 'PPO' || !has(self.ppo)", PPO_ELSEWHERE),
            rule(f"self.algorithm != 'RLOO' || {UPDATES} == 1", RLOO_ONCE),
            rule(
                f"{UPDATES} > 1 || !(has(self.clipRange) || (has(self.ppo) && has(self.ppo.valueClipRange)))",
                NOTHING_TO_CLIP,
            ),
        ]
    )
    algorithm: Literal["GRPO", "RLOO", "PPO"] = Field(
        "GRPO",
        description="GRPO divides each advantage by the spread of its group, and pays for moving away by a term of the "
        "loss (Shao et al. 2024, arXiv:2402.03300). RLOO compares with the mean of the others, and takes the price out "
        "of the reward (Ahmadian et al. 2024, arXiv:2402.14740). PPO compares each token with what a value head "
        "expected, and takes the price out of the reward of each token (Schulman et al. 2017, arXiv:1707.06347).",
    )
    rewards: list[Reward] = Field(min_length=1, max_length=8)
    """What completions are rewarded for."""
    group_size: int = Field(
        8, ge=1, le=1024, description="Completions of each prompt; GRPO and RLOO need two to compare."
    )
    max_new_tokens: int = Field(256, ge=1, le=131072, description="Longest completion.")
    temperature: float = Field(1.0, gt=0, le=10, description="Of the sampling; less varies less.")
    beta: float = Field(
        0.04, ge=0, le=100, description="Price of moving away from the model as it was; 0 asks for no reference."
    )
    passes: int | None = Field(
        None,
        ge=1,
        le=100,
        description="Times that completions are learnt from before new ones. Default: PPO 4, else 1.",
    )
    mini_batches: int = Field(
        1, ge=1, le=1024, description="Optimizer steps of a pass, each on its share of the completions."
    )
    clip_range: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="A token whose probability is farther than this share from what it was when it was written is "
        "moved no farther. Default 0.2.",
    )
    ppo: Ppo | None = Field(None, description="PPO: the value head and what it is used for.")

    @property
    def updates(self) -> int:
        """Optimizer steps that learn from the same completions."""
        return (self.passes or (PPO_PASSES if self.algorithm == "PPO" else 1)) * self.mini_batches

    @property
    def compares_with_written(self) -> bool:
        """Whether the probability of a token is compared with what it was when it was written."""
        return self.algorithm == "PPO" or self.updates > 1

    @property
    def divergence_in_loss(self) -> bool:
        """Whether the loss itself compares with the model before training; else the reward does, or nothing."""
        return self.algorithm == "GRPO" and self.beta > 0

    @property
    def has_value_head(self) -> bool:
        """Whether a value head is trained beside the model."""
        return self.algorithm == "PPO"

    @model_validator(mode="after")
    def fits_the_algorithm(self) -> "Reinforcement":
        if self.algorithm != "PPO" and self.group_size < 2:
            raise ValueError(ALONE)
        if self.algorithm != "PPO" and self.ppo:
            raise ValueError(PPO_ELSEWHERE)
        if self.algorithm == "RLOO" and self.updates > 1:
            raise ValueError(RLOO_ONCE)
        if self.updates == 1 and (self.clip_range or (self.ppo and self.ppo.value_clip_range)):
            raise ValueError(NOTHING_TO_CLIP)
        return self
