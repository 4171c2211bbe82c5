"""Places that models and data come from and results go to, behind one small interface."""

from finetune_storage.location import Entry, Storage
from finetune_storage.resolve import open_storage

__all__ = ["Entry", "Storage", "open_storage"]
