"""Runs of the recipe in this process."""

from pathlib import Path
from typing import Any

from finetune_api.trainer_config import TrainerConfig
from finetune_trainer.ranks import Ranks
from trainer.jobs import Recorder


class Killed(Exception):
    """Ends a run where a lost pod would: between two steps, with no chance to save."""


class KillingRecorder(Recorder):
    """Keeps losses until the step at which the process is to die."""

    def update(self, **fields: Any) -> None:
        end_at, self.end_at = self.end_at, None
        super().update(**fields)
        self.end_at = end_at
        if end_at is not None and fields.get("loss") is not None and fields["step"] == end_at:
            raise Killed


def run(
    config: TrainerConfig, root: Path, end_at: int | None = None, ranks: Ranks | None = None
) -> tuple[Any, dict[int, float]]:
    """Result and losses by step; every rank of a group calls it. With `end_at` no result, and all in memory is lost."""
    from finetune_trainer.recipe import train
    from finetune_trainer.run import Run

    rank, size = (ranks.rank, ranks.world_size) if ranks else (0, 1)
    recorder = KillingRecorder(end_at=end_at)
    root.mkdir(parents=True, exist_ok=True)
    own = Run(root / "scratch", rank, rank, size, size, reporter=recorder, memory_note=root / f"memory-{rank}")
    try:
        result = train(config, own)
    except Killed:
        result = None
    return result, recorder.losses
