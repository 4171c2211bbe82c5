"""What surrounds a run: made once by the command, handed to the recipe."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from finetune_api.reports import ProgressReport

if TYPE_CHECKING:
    from finetune_trainer.checkpoint import CheckpointStore


class Reporter(Protocol):
    """Where progress goes; never blocks and never fails the training."""

    def report(self, report: ProgressReport) -> None:
        """Send it, or drop it for a newer one."""


class StopFlag(Protocol):
    """Whether this process was asked to stop (SIGTERM)."""

    def is_set(self) -> bool:
        """True once the signal arrived."""


@dataclass(frozen=True)
class RunContext:
    """The process's surroundings. Ranks come from torch.distributed's environment (RANK, WORLD_SIZE …)."""

    scratch: Path
    """A folder of this node, gone with the pod: downloads, tokenised data, unfinished artifacts."""
    checkpoints: "CheckpointStore"
    stop: StopFlag
    reporter: Reporter
