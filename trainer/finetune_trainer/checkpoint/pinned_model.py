"""The commit of a Hub model that all attempts of a job start from, and that its adapter is served on."""

import logging

from finetune_api.model_reference import ModelReference
from finetune_storage import open_storage
from finetune_storage.hub import HubStorage
from finetune_trainer.checkpoint.opening import open_backend
from finetune_trainer.errors import of_field
from finetune_trainer.run import Run

log = logging.getLogger(__name__)

PIN = "base-model-commit"
"""A record beside the checkpoints: the model's URI and revision as written, and the commit that they stood for."""


def pin_model(model: ModelReference, checkpoint_storage: str, run: Run) -> ModelReference:
    """The model at a commit, so that a branch that moves between two attempts changes nothing.

    Places without versions are given back as they are. A commit that an earlier attempt kept is taken again.
    """
    if model.source is None:
        return model
    with of_field("model.source"):
        storage = open_storage(model.source, model.revision)
        if not isinstance(storage, HubStorage):
            return model
        written = f"{model.source}@{model.revision or ''}"
        backend = open_backend(checkpoint_storage, run.scratch)
        known, _, commit = (backend.read_record(PIN) or b"").decode().partition("\n")
        if known == written and commit:
            return model.model_copy(update={"revision": commit})
        commit = storage.commit()
    if run.rank == 0:
        backend.write_record(PIN, f"{written}\n{commit}".encode())
        log.info("the model is %s at commit %s", model.source, commit)
    return model.model_copy(update={"revision": commit})
