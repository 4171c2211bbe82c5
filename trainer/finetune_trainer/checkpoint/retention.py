"""Which checkpoints may go."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from finetune_trainer.checkpoint.backend import step_of


@dataclass(frozen=True)
class Series:
    """The last checkpoints at multiples of some number of steps: those that are averaged after the training."""

    every: int
    count: int

    def of(self, names: Sequence[str], last_step: int | None = None) -> list[str]:
        """Given all names, newest first: the newest at each such step, and at `last_step`."""
        newest: dict[int, str] = {}
        for name in names:
            newest.setdefault(step_of(name), name)
        steps = [step for step in newest if step % self.every == 0 or step == last_step]
        return [newest[step] for step in steps[: self.count]]


def surplus(
    names: Sequence[str],
    keep: int,
    newest: str,
    best: str | None,
    damaged: Collection[str],
    series: Series | None = None,
) -> list[str]:
    """The checkpoints to delete, given all of them newest first.

    `newest` was just verified and stays, like the best one and those of the `series`. Damaged ones go and do not count
    among the kept: else two bad ones could push the last good one out.
    """
    sound = [name for name in names if name not in damaged]
    kept = {*sound[:keep], newest, best, *(series.of(sound) if series else ())}
    return [name for name in names if name not in kept]
