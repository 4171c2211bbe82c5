"""What can be known before PyTorch is loaded and the other pods are met: seconds instead of minutes to a wrong path.

Pod 0 looks whether the model and the data are there, reads the first rows of the data, and compares a rough estimate of
the memory with what the pod has. Errors end the job as they would later; an estimate only warns. What was found becomes
the condition Preflight of the job: by a progress report, or by the last words of the pod. While a gang waits for its
place, a pod that only looks says so in its last words, too.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from finetune_api.artifact import DESCRIPTION_FILE
from finetune_api.dataset import DataFile, Dataset, Subtask
from finetune_api.distillation import WRITING
from finetune_api.model_reference import ModelReference
from finetune_api.reports import ReportedPreflight, TerminationMessage
from finetune_api.trainer_config import TrainerConfig
from finetune_storage import Storage, open_storage
from finetune_storage.errors import NotFoundError, StorageError, UnavailableError
from finetune_storage.local import LocalStorage
from finetune_storage.location import Entry
from finetune_trainer import termination
from finetune_trainer.errors import ConfigurationError, DataError, TrainerError, of_field
from finetune_trainer.launch.memory_estimate import MEMORY_LIMIT, gpu_memory, warn_of_memory
from finetune_trainer.launch.weight_files import Weights, weights_in
from finetune_trainer.progress import Receiver, Reporter
from finetune_trainer.redaction import redact
from finetune_trainer.unquantizable import JOINED_EXPERTS, refuse_most_left

if TYPE_CHECKING:
    from finetune_trainer.launch.sample import Sample

log = logging.getLogger(__name__)
MESSAGE_LIMIT = 1024


def preflight(
    config: TrainerConfig, limit_file: Path | None = MEMORY_LIMIT, *, trains: bool = True
) -> ReportedPreflight:
    """What was found. Raises ConfigurationError, DataError or a StorageError; what time may mend is only told.

    `limit_file`: of the kernel; None where what the kernel allows here is not what the trainer gets. `trains`: this pod
    does so, if all is well; otherwise it has nothing mounted that it could write to.
    """
    try:
        if trains:
            check_writable(config)
        weights = check_model(config.model)
        check_quantizable(config, weights)
        rows = {place: check_data(place, part, columns) for place, part, columns in _data(config.dataset)}
        if config.training.distillation:
            check_teacher(config.training.distillation.teacher, config.task in WRITING)
    except UnavailableError as error:
        log.warning("preflight: %s; the workers will try again", error)
        return found("Unknown", "StorageUnavailable", f"{error}; the workers try again")
    if warning := warn_of_memory(config, weights.all if weights else None, limit_file, gpu_memory()):
        return found("True", "MemoryShort", warning)
    log.info("preflight: model and data are there")
    return found("True", "Passed", "; ".join((_of_model(config, weights), *map(_of_data, rows.items()))))


def look(config: TrainerConfig, limit_file: Path | None = MEMORY_LIMIT, *, trains: bool = True) -> TerminationMessage:
    """The last words of a pod that ends with what it has found, be it well or not."""
    try:
        return TerminationMessage(outcome="Succeeded", preflight=preflight(config, limit_file, trains=trains))
    except (TrainerError, StorageError) as error:
        message = termination.message_of(error)
        return message.model_copy(update={"preflight": found("False", message.outcome, message.message)})


def found(status: Literal["True", "False", "Unknown"], reason: str, message: str) -> ReportedPreflight:
    """As it is told: short, and without secrets."""
    return ReportedPreflight(status=status, reason=reason, message=redact(message)[:MESSAGE_LIMIT])


def tell(report: ReportedPreflight, attempt: int) -> None:
    """Lets the operator know, from a thread that goes on trying beside the workers. Never raises."""
    Reporter(Receiver.from_environment(), attempt).update(stage="Preparing", preflight=report)


def _of_model(config: TrainerConfig, weights: Weights | None) -> str:
    if config.model.source is None:
        return "the model is made from the data"
    return "the model is there" + (f", {_number(weights.all)} weights" if weights is not None else "")


def _number(count: int) -> str:
    return f"{count / 1e6:.3g} million" if count >= 1e6 else f"{count:,}"


def _of_data(part: tuple[str, "Sample | None"]) -> str:
    place, seen = part
    if seen is None:
        return f"{place} is there"
    return f"{place} is there, its {f'first {seen.rows} rows' if seen.rows else 'columns'} can be read"


def _data(dataset: Dataset) -> Iterator[tuple[str, DataFile, dict[str, str]]]:
    """Field, data and columns of each part, of each subtask if there are some; the columns by the field of each."""
    owners: dict[str, Dataset | Subtask] = {"dataset": dataset}
    owners |= {f"dataset.subtasks[{place}]": subtask for place, subtask in enumerate(dataset.subtasks or ())}
    for owner, parts in owners.items():
        for name in ("train", "validation", "test"):
            if (part := getattr(parts, name)) is not None:
                yield f"{owner}.{name}", part, _columns_of(owner, parts, held_out=name != "train")


def _columns_of(owner: str, parts: Dataset | Subtask, *, held_out: bool) -> dict[str, str]:
    """Held-out files are not split, but their groups may not be in the training data."""
    named: dict[str, object] = {f"{owner}.columns.{role}": column for role, column in parts.columns.wire().items()}
    if parts.split:
        named[f"{owner}.split.groupBy"] = parts.split.group_by
        named[f"{owner}.split.stratifyBy"] = None if held_out else parts.split.stratify_by
    return {field: column for field, column in named.items() if isinstance(column, str)}


def check_writable(config: TrainerConfig) -> None:
    """Of volumes; whether a bucket takes files only a write would tell."""
    for field, place in (("checkpoint.storage", config.checkpoint.storage), ("output.storage", config.output)):
        with of_field(field):
            storage = open_storage(place)
            if isinstance(storage, LocalStorage):
                storage.check_writable()


def check_model(model: ModelReference) -> Weights | None:
    """Its weights, from the headers of its files; None where only downloading them would tell."""
    if model.source is None:
        return None
    with of_field("model.source"):
        storage = open_storage(model.source, model.revision)
        files = {entry.path for entry in _files(storage)}
    if "config.json" not in files:
        raise ConfigurationError(f"model.source: {model.source} has no config.json, so it is no model folder")
    with of_field("model.source"):
        return weights_in(storage, files)


def check_quantizable(config: TrainerConfig, weights: Weights | None) -> None:
    """Raises ConfigurationError where qlora would leave most weights as they are."""
    source = config.model.source
    if config.method.qlora is None or source is None or weights is None or not weights.of_experts:
        return
    with of_field("model.source"), open_storage(source, config.model.revision).open("config.json") as stream:
        try:
            kind = json.loads(stream.read())["model_type"]
        except (ValueError, TypeError, KeyError):
            return  # told in full by the workers, which need more of it
    if kind in JOINED_EXPERTS:
        refuse_most_left(weights.share_of_experts, kind)


def check_data(place: str, part: DataFile, columns: Mapping[str, str]) -> "Sample | None":
    """That it is there, that its first rows can be read, and that they have the columns that the job's fields name."""
    from finetune_trainer.launch.sample import sample

    field = f"{place}.source"
    with of_field(field):
        storage = open_storage(part.source, kind="dataset")
        files = _files(storage)
    if not sum(entry.size for entry in files):
        raise DataError(f"{field}: {part.source} is empty; write its rows first, or correct the place")
    seen = sample(place, part, storage, files)
    if seen is not None:
        _check_columns(place, part, seen, columns)
    return seen


def check_teacher(place: str, may_be_pretrained: bool) -> None:
    """That an artifact of this trainer is there, or another model where that will do."""
    field = "training.distillation.teacher"
    with of_field(field):
        files = {entry.path for entry in _files(open_storage(place))}
    if may_be_pretrained and not files & {DESCRIPTION_FILE, "config.json"}:
        raise ConfigurationError(f"{field}: {place} has no config.json, so it is no model folder")
    if not may_be_pretrained and DESCRIPTION_FILE not in files:
        raise ConfigurationError(
            f"{field}: {place} has no {DESCRIPTION_FILE}, so it is no artifact of this trainer; name the folder of one"
        )


def _check_columns(place: str, part: DataFile, seen: "Sample", columns: Mapping[str, str]) -> None:
    if not seen.columns:
        raise DataError(f"{place}.source: {part.source} holds no rows")
    where = f"none of the first {seen.rows} rows of {part.source} has a" if seen.rows else f"{part.source} has no"
    for field, column in columns.items():
        if column not in seen.columns:
            present = ", ".join(sorted(seen.columns))
            raise DataError(f"{field}: {where} column {column!r}; they have {present}{_of_separator(seen)}")


def _of_separator(seen: "Sample") -> str:
    """What to do about a CSV file whose columns came as one."""
    (only, *others) = sorted(seen.columns)
    if others or not (found := [mark for mark in (";", "\t", "|") if mark in only]):
        return ""
    return f". CSV is separated by commas: this file seems to have {found[0]!r} between its columns, so convert it"


def _files(storage: Storage) -> list[Entry]:
    """Raises NotFoundError, in the storage's own words where it has some, when there are none."""
    files = storage.files()
    if not files:
        if isinstance(storage, LocalStorage):
            storage.fetch(Path())
        raise NotFoundError(f"{storage.uri}: there are no files; correct the place, or put them there")
    return files
