"""Which checkpoints may go."""

from collections.abc import Collection, Sequence


def surplus(names: Sequence[str], keep: int, newest: str, best: str | None, damaged: Collection[str]) -> list[str]:
    """The checkpoints to delete, given all of them newest first.

    `newest` was just verified and stays, like the best one. Damaged ones go and do not count among the kept: else
    two bad ones could push the last good one out.
    """
    sound = [name for name in names if name not in damaged]
    kept = {*sound[:keep], newest, best}
    return [name for name in names if name not in kept]
