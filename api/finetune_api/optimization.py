"""Parts of `training` that say how the weights move, and when a run that goes wrong ends."""

from typing import Literal

from pydantic import Field

from finetune_api.base import Schema

Scheduler = Literal["Linear", "Cosine", "WarmupStableDecay", "ReduceOnPlateau", "Constant"]
Optimizer = Literal["AdamW", "AdamW8bit", "Adafactor", "Muon"]


class Plateau(Schema):
    """ReduceOnPlateau: lower the learning rate when the validation metric no longer improves."""

    metric: str = Field("loss", max_length=64)
    """Metric of the validation data to watch."""
    factor: float = Field(0.5, gt=0, lt=1)
    """What the learning rate is multiplied by."""
    patience: int = Field(2, ge=1, le=1000, description="Evaluations without improvement before it is lowered.")


class LossSpike(Schema):
    """End a run whose training loss has jumped up and stays there."""

    factor: float = Field(
        3.0, gt=1, le=1000, description="A loss this many times the median of the last log lines counts as a spike."
    )
    patience: int = Field(3, ge=1, le=1000, description="Log lines with a spike, one after another, that end the run.")
