"""Checkpoints that can be trusted: atomic, verified, agreed on by every rank, and complete enough to resume exactly."""

from finetune_trainer.checkpoint.lineage import Lineage
from finetune_trainer.checkpoint.store import CheckpointStore, SavedCheckpoint

__all__ = ["CheckpointStore", "Lineage", "SavedCheckpoint"]
