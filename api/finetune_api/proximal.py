"""`training.reinforcement.ppo`: what proximal policy optimisation has beyond other algorithms."""

from pydantic import Field

from finetune_api.base import Schema


class Ppo(Schema):
    """Of the value head, which foretells from each token what the rest of the completion will earn (Schulman et al.
    2017, arXiv:1707.06347). It is made anew for the run, kept in its checkpoints, and no part of the artifact."""

    gamma: float = Field(1.0, gt=0, le=1, description="What a reward is worth one token earlier.")
    gae_lambda: float = Field(
        0.95,
        ge=0,
        le=1,
        description="Between trusting the value head, 0, and what was earned, 1 (Schulman et al. 2016, "
        "arXiv:1506.02438).",
    )
    value_weight: float = Field(0.1, gt=0, le=100, description="Of the value head's loss in the objective.")
    value_clip_range: float | None = Field(
        None,
        gt=0,
        le=1000,
        description="A value that is farther than this from what it was when the completion was written is pulled no "
        "farther. Default 0.2.",
    )
    head_learning_rate: float | None = Field(
        None, gt=0, le=1, description="Peak learning rate of the value head. Default: training.learningRate."
    )
    whiten_advantages: bool = Field(
        True, description="Give the advantages of each batch of completions mean 0 and spread 1."
    )
    entropy_weight: float = Field(
        0.0, ge=0, le=10, description="Reward in the objective for keeping several tokens likely; costs memory."
    )
