"""Brings a job's model and data to local disk, once a node."""

import hashlib
from pathlib import Path

from finetune_api.manifest import MANIFEST
from finetune_api.model_reference import ModelReference
from finetune_storage import Storage, open_storage
from finetune_storage.model_files import model_patterns
from finetune_trainer.data.cache import locked
from finetune_trainer.errors import of_field
from finetune_trainer.run import Run


def fetch_model(model: ModelReference, run: Run) -> Path:
    """The folder of a pre-trained model."""
    assert model.source is not None
    with of_field("model.source"):
        storage = open_storage(model.source, model.revision)
        patterns = model_patterns(storage, model.trust_remote_code)
        return _fetch(storage, f"{model.source}@{model.revision}", run, patterns)


def fetch_data(uri: str, run: Run) -> Path:
    """A data file or a folder of them."""
    return _fetch(open_storage(uri, kind="dataset"), uri, run)


def fetch_artifact(uri: str, run: Run, revision: str | None = None) -> Path:
    """The folder of a model that this trainer exported, whole."""
    return _fetch(open_storage(uri, revision), f"{uri}@{revision}", run)


def fetch_teacher(uri: str, run: Run, revision: str | None = None) -> Path:
    """The folder of a model, exported by this trainer or pre-trained; of the latter only what loads it."""
    storage = open_storage(uri, revision)
    exported = any(entry.path == MANIFEST for entry in storage.files())
    return _fetch(storage, f"{uri}@{revision}", run, None if exported else model_patterns(storage, False))


def _fetch(storage: Storage, identity: str, run: Run, patterns: list[str] | None = None) -> Path:
    name = hashlib.sha256(identity.encode()).hexdigest()[:16]
    # A file keeps its name, whose ending says its format.
    target = run.scratch / "sources" / name / (Path(storage.uri).name or "source")
    with locked(run.scratch / "sources" / f"{name}.lock"):
        return storage.fetch(target, patterns=patterns)
