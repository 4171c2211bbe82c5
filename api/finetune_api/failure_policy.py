"""How often a job may start again, by what stopped it."""

from pydantic import Field

from finetune_api.base import Schema


class MaxRestarts(Schema):
    """For each cause by itself, by its class: three lost nodes do not eat the budget of hangs, nor preemptions any."""

    user: int = Field(0, ge=0, le=1000, description="Errors of the code, the configuration or the data.")
    out_of_memory: int = Field(1, ge=0, le=1000, description="Host or GPU memory ran out, which mostly happens again.")
    infrastructure: int = Field(
        3, ge=0, le=1000, description="A lost node or pod, a hang, the network, an unexplained crash."
    )
    preemption: int = Field(100, ge=0, le=10000, description="Eviction, preemption, a drained node.")


class FailurePolicy(Schema):
    """Every restart brings up the whole gang, from the newest verified checkpoint."""

    max_restarts: MaxRestarts = Field(default_factory=MaxRestarts)
    backoff_seconds: float = Field(
        5,
        ge=0,
        le=3600,
        description="Wait before the first restart after a cause; doubles each time, up to five minutes, ± a fifth.",
    )
    hang_timeout_seconds: int | None = Field(
        None,
        ge=10,
        le=86400,
        description="No training step for so long is a hang: the stacks of all ranks are kept and the gang starts "
        "again. Unset: ten times the median step, at least five minutes. An evaluation may take ten times as long "
        "as the longest before it, at least five minutes; the first one, preparation, checkpoints and export two "
        "hours, or this if it is more.",
    )
