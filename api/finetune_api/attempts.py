"""The attempts of a FineTuneJob, as its status tells of them."""

from pydantic import ConfigDict, Field

from finetune_api.base import Schema


class StatusSchema(Schema):
    """Status is ours: a field of a newer version must not stop an older operator."""

    model_config = ConfigDict(extra="ignore")


class RankStack(StatusSchema):
    """One rank of a gang that hung."""

    rank: int
    """Global rank of the process."""
    state: str | None = None
    """Why it gave no stack: it is stopped, or waits in the kernel."""
    text: str | None = None
    """Its main thread, most recent call first."""


class Attempt(StatusSchema):
    """One gang of pods, from start to end."""

    number: int
    """1 is the first."""
    nodes: int | None = None
    """Pods that it has; with distributed.elastic maybe fewer than distributed.nodes."""
    cause: str = Field("", description="Why it ended: Succeeded, UserError, BadData, NodeLost, Hang, Preempted …")
    reason: str = ""
    """The evidence, for people."""
    node: str | None = None
    """Node of the pod that failed first."""
    pod: str | None = None
    """Pod that failed first."""
    rank: int | None = None
    """Node rank of that pod."""
    exit_code: int | None = None
    """Of its container."""
    last_log_lines: str | None = None
    """What it said last."""
    stacks: list[RankStack] | None = Field(
        None,
        max_length=16,
        description="After a hang: what the ranks were at, those that hung first. In full in the logs.",
    )
    planned_at: str | None = None
    """When it was decided on; its objects are made from then on."""
    hindered_since: str | None = None
    """Since when a pod that has a node cannot be started there; unset while nothing hinders one."""
    started_at: str | None = None
    """When its pods were created."""
    ended_at: str | None = None
    """When its outcome was known."""
    resumed_from_step: int | None = None
    """Step of the checkpoint it went on from; unset for a start from nothing."""


class Restarts(StatusSchema):
    """How many attempts were started again; all of them, also those that `attempts` has forgotten."""

    total: int = 0
    """After whatever cause."""
    by_cause: dict[str, int] = Field(default_factory=dict)
    """Each cause has a budget of its own, the `maxRestarts` of its class."""
