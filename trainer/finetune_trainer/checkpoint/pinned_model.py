"""The commits of Hub models that all attempts of a job use: of its base, its teacher and its reward models."""

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
TEACHER_PIN = "teacher-commit"
"""The same of the model that is learnt from."""
REWARD_PIN = "reward-model-commit"
"""The same of models that reward; the place of the reward follows."""


def pin_model(model: ModelReference, checkpoint_storage: str, run: Run) -> ModelReference:
    """The model at a commit, so that a branch that moves between two attempts changes nothing.

    Places without versions are given back as they are. A commit that an earlier attempt kept is taken again.
    """
    if model.source is None:
        return model
    with of_field("model.source"):
        commit = _commit(model.source, model.revision, PIN, checkpoint_storage, run)
    return model if commit is None else model.model_copy(update={"revision": commit})


def pin_teacher(teacher: str, checkpoint_storage: str, run: Run) -> str | None:
    """The teacher's commit, found and kept likewise; None for places without versions."""
    with of_field("training.distillation.teacher"):
        return _commit(teacher, None, TEACHER_PIN, checkpoint_storage, run)


def pin_reward_model(source: str, place: int, checkpoint_storage: str, run: Run) -> str | None:
    """The commit of the reward model of the reward at `place`, likewise."""
    return _commit(source, None, f"{REWARD_PIN}-{place}", checkpoint_storage, run)


def _commit(uri: str, revision: str | None, pin: str, checkpoint_storage: str, run: Run) -> str | None:
    storage = open_storage(uri, revision)
    if not isinstance(storage, HubStorage):
        return None
    written = f"{uri}@{revision or ''}"
    backend = open_backend(checkpoint_storage, run.scratch)
    known, _, commit = (backend.read_record(pin) or b"").decode().partition("\n")
    if known == written and commit:
        return commit
    commit = storage.commit()
    if run.rank == 0:
        backend.write_record(pin, f"{written}\n{commit}".encode())
        log.info("%s is used at commit %s", uri, commit)
    return commit
