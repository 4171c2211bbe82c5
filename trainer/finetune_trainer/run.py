"""What the launcher hands to the recipe: who this process is, and its lines to the outside."""

from dataclasses import dataclass, field
from pathlib import Path

from finetune_trainer.heartbeat import Heartbeat
from finetune_trainer.progress import Reporter
from finetune_trainer.prometheus import TrainingMetrics
from finetune_trainer.stop import StopSignal


@dataclass
class Run:
    """One process of a run."""

    scratch: Path
    """Local to the pod, gone with it, shared by its processes."""
    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    local_world_size: int = 1
    stop: StopSignal = field(default_factory=StopSignal)
    reporter: Reporter = field(default_factory=Reporter.silent)
    heartbeat: Heartbeat = field(default_factory=Heartbeat.silent)
    metrics: TrainingMetrics = field(default_factory=TrainingMetrics)
    memory_note: Path | None = None
    """Where to leave what the launcher is to say if the kernel ends this process for memory."""
