"""Stopping, and saving, at a step that every rank agrees on.

A pod that is told to go gets SIGTERM; the pods of the other ranks may get none. If one rank left the loop alone, the
others would wait for it in a collective for ever. So each rank's wish goes into one tiny all-reduce after every
step, and all of them act on the same answer at the same step.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a process takes its signals before it spends seconds on importing PyTorch
    from finetune_api.training import Checkpoint
    from finetune_trainer.ranks import Ranks

DEFAULT_MINUTES = 10.0


class StopSignal:
    """Whether this process was asked to stop. The handler only sets a flag: safe at any point of the program."""

    def __init__(self) -> None:
        self.requested = False

    def install(self) -> StopSignal:
        """Take SIGTERM and SIGINT of this process; call it from the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)
        return self

    def request(self) -> None:
        """Ask for a stop from within the process."""
        self.requested = True

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True


class StopFlag(StopSignal):
    """A file that the launcher makes, for processes whose signals are somebody else's: Ray's workers."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def requested(self) -> bool:  # type: ignore[override]
        return self._path.exists()

    def request(self) -> None:
        self._path.touch()


@dataclass(frozen=True)
class Decision:
    """What every rank does after this step."""

    stop: bool
    save: bool


class StepAgreement:
    """One all-reduce a step: does any rank want to stop, is a checkpoint due by rank 0's clock, are all at one step."""

    def __init__(
        self, ranks: Ranks, stop: StopSignal, spec: Checkpoint, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ranks = ranks
        self._stop = stop
        self._every_steps = spec.every_steps
        self._every_seconds = 60 * (spec.every_minutes or DEFAULT_MINUTES)
        self._clock = clock
        self._saved_at = clock()

    def at(self, step: int) -> Decision:
        """The common decision after optimizer step `step`. Stopping implies saving.

        Raises:
            RuntimeError: The ranks are at different steps; going on would mix up their collectives.
        """
        stop, due, greatest, least = self._ranks.maximum([int(self._stop.requested), int(self._due(step)), step, -step])
        if greatest != -least:
            raise RuntimeError(
                f"the ranks are at different steps ({-least} to {greatest}): they got different numbers of batches"
            )
        return Decision(stop=bool(stop), save=bool(stop or due))

    def stop_asked(self) -> bool:
        """Whether any rank was asked to stop; between two steps, and every rank calls it as often."""
        return bool(self._ranks.maximum([int(self._stop.requested)])[0])

    def saved(self) -> None:
        """A checkpoint was written, or tried: the interval starts anew."""
        self._saved_at = self._clock()

    def _due(self, step: int) -> bool:
        if self._every_steps is not None:
            return step % self._every_steps == 0
        return self._ranks.rank == 0 and self._clock() - self._saved_at >= self._every_seconds
