"""From a URI to the backend that keeps checkpoints there."""

from pathlib import Path

from finetune_storage import open_storage
from finetune_storage.local import LocalStorage
from finetune_trainer.checkpoint.backend import Backend
from finetune_trainer.checkpoint.shared_folder import SharedFolder
from finetune_trainer.errors import ConfigurationError


def open_backend(uri: str, scratch: Path) -> Backend:
    """Nothing is read or written yet.

    Raises:
        ConfigurationError: A place that cannot be written, such as `hf://`.
    """
    storage = open_storage(uri)
    if isinstance(storage, LocalStorage):
        return SharedFolder(storage)
    from finetune_storage.s3 import S3Storage
    from finetune_trainer.checkpoint.object_store import ObjectStore

    if not isinstance(storage, S3Storage):
        raise ConfigurationError(f"checkpoint.storage: {uri} cannot be written; use s3://, pvc:// or file://")
    return ObjectStore(storage, scratch / "checkpoints")
