"""Notices a worker that gives no sign of life for longer than it said."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from finetune_trainer.heartbeat import OTHER_SECONDS, Beat, heartbeat_file, read_beat

LONGEST_LOOK = 5.0
"""Seconds that one look may add to a silence: when the whole pod was frozen, the watcher was too."""

UNBORN = Beat(0, 0, OTHER_SECONDS)
"""Of a process that runs and has not given a sign of life: its first lines may hang, too."""


@dataclass
class Overdue:
    """A rank that hangs, or waits for one that does."""

    rank: int
    step: int
    silent: float
    """Seconds."""


@dataclass
class _Known:
    beat: Beat
    silent: float = 0.0


class HangWatch:
    """Look at it about once a second."""

    def __init__(self, folder: Path, ranks: list[int], clock: Callable[[], float] = time.monotonic) -> None:
        self._files = {rank: heartbeat_file(folder, rank) for rank in ranks}
        self._clock = clock
        self._looked = clock()
        self._known: dict[int, _Known] = {}

    def look(self, *, started: bool = True) -> list[Overdue]:
        """The ranks that are overdue. Not `started`: their processes have yet to be made."""
        now = self._clock()
        elapsed, self._looked = min(now - self._looked, LONGEST_LOOK), now
        for rank, path in self._files.items():
            if started:
                self._note(rank, read_beat(path) or UNBORN, elapsed)
        return [
            Overdue(rank, known.beat.step, known.silent)
            for rank, known in self._known.items()
            if known.silent > known.beat.due_in
        ]

    def steps(self) -> dict[int, int]:
        """Optimizer steps that each rank had done when it was last heard of."""
        return {rank: known.beat.step for rank, known in self._known.items()}

    def _note(self, rank: int, beat: Beat, elapsed: float) -> None:
        known = self._known.get(rank)
        if known is None or known.beat != beat:
            self._known[rank] = _Known(beat)
        else:
            known.silent += elapsed
