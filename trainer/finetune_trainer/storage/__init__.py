"""Places that models and data come from and results go to, behind one small interface."""

from finetune_trainer.storage.location import Entry, Storage
from finetune_trainer.storage.resolve import open_storage

__all__ = ["Entry", "Storage", "open_storage"]
