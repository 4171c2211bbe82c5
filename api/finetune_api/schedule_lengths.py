"""Whether warm-up and decay have room in a run. The API knows `maxSteps`, the trainer any number of steps."""

from finetune_api.base import rule
from finetune_api.optimization import Scheduler

DEFAULT_DECAY = 0.2
"""Share of the steps in which WarmupStableDecay falls (arXiv:2404.06395)."""
SLACK = 1e-6
"""Of sums of shares: 0.7 + 0.3 is not exactly 1."""

WARMUP_TAKES_ALL = (
    "warmup takes all of maxSteps, so learningRate would never be reached; lower it, or give it as a share of all "
    "steps, such as 0.1"
)
NO_ROOM_FOR_DECAY = "warmup and decay together are longer than the run; lower one of them (decay is 0.2 by default)"


def schedule_lengths_rules() -> list[dict[str, str]]:
    """As CEL rules of `training`."""
    steps = "(has(self.maxSteps) ? double(self.maxSteps) : 1.0)"
    decay = f"(has(self.decay) ? self.decay : {DEFAULT_DECAY})"
    known = f"(has(self.maxSteps) || (self.warmup < 1.0 && {decay} < 1.0))"
    both = f"{_in_steps('self.warmup', steps)} + {_in_steps(decay, steps)}"
    return [
        rule("!has(self.maxSteps) || self.warmup < 1.0 || self.warmup < double(self.maxSteps)", WARMUP_TAKES_ALL),
        rule(
            f"self.scheduler != 'WarmupStableDecay' || !{known} || {both} <= {steps} * {1 + SLACK}", NO_ROOM_FOR_DECAY
        ),
    ]


def _in_steps(value: str, steps: str) -> str:
    return f"({value} < 1.0 ? {value} * {steps} : {value})"


def schedule_problem(
    warmup: float, decay: float | None, scheduler: Scheduler, total: int | None, source: str
) -> str | None:
    """What has no room in a run of `total` steps, None as long as that is not known, and the mend.

    `source` is what the number of steps comes from.
    """
    if total is not None and warmup >= 1 and total <= warmup:
        return (
            f"warmup ({warmup:g} steps) takes all of {source} ({total}), so learningRate would never be reached; lower "
            "it, or give it as a share of all steps, such as 0.1"
        )
    if scheduler != "WarmupStableDecay":
        return None
    falls = DEFAULT_DECAY if decay is None else decay
    if total is None and (warmup >= 1 or falls >= 1):
        return None
    together = sum(part * (total or 1) if part < 1 else part for part in (warmup, falls))
    if together <= (total or 1) * (1 + SLACK):
        return None
    run = f"{source} ({total})" if total else "the run"
    default = ", the default" if decay is None else ""
    return f"warmup ({warmup:g}) and decay ({falls:g}{default}) together are longer than {run}; lower one of them"
