"""Prepares the data of each subtask as that of a job, and joins it."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from finetune_api.dataset import Dataset, Subtask
from finetune_storage.errors import StorageError
from finetune_trainer.data.encoded import Encoded
from finetune_trainer.data.joined import Joined
from finetune_trainer.data.mixture import Mixture, sampling_shares
from finetune_trainer.data.parts import PARTS
from finetune_trainer.data.prepare import Fetch, PreparedData, prepare
from finetune_trainer.data.report import length_report
from finetune_trainer.errors import DataError
from finetune_trainer.tasks.task import DataTask

OWN_FIELDS = re.compile(rf"\bdataset\.(?={'|'.join(Subtask.model_fields)})")
"""Fields that stand below a subtask; all are single words."""
COUNTS = ("read", "kept", "unscored", "duplicates", "contradictoryDuplicates", "tokens")


def prepare_subtasks(
    dataset: Dataset, tasks: Mapping[str, DataTask], processor: Any, max_length: int, scratch: Path, fetch: Fetch
) -> PreparedData:
    """Each read, cleaned, split and encoded on its own; the files of each are cached on their own.

    Raises:
        DataError: As `prepare` does; names the subtask too.
    """
    prepared: dict[str, PreparedData] = {}
    for place, subtask in enumerate(dataset.subtasks or ()):
        with of_subtask(place, subtask):
            own = dataset.of(subtask)
            prepared[subtask.name] = prepare(own, tasks[subtask.name], processor, max_length, scratch, fetch)
    return joined(prepared)


@contextmanager
def of_subtask(place: int, subtask: Subtask) -> Iterator[None]:
    """Names the subtask in errors of its data, and its fields as the job has them."""
    try:
        yield
    except (DataError, StorageError) as error:
        text = OWN_FIELDS.sub(f"dataset.subtasks[{place}].", str(error))
        raise type(error)(f"subtask {subtask.name}: {text}") from error


def joined(prepared: Mapping[str, PreparedData]) -> PreparedData:
    """All as one."""

    parts = {part: _part(part, {name: getattr(data, part) for name, data in prepared.items()}) for part in PARTS}
    fingerprint = _digest([(name, data.fingerprint) for name, data in prepared.items()])
    return PreparedData(
        **parts,
        labels=[f"{name}/{label}" for name, data in prepared.items() for label in data.labels],
        fingerprint=fingerprint,
        report=_report(fingerprint, parts, {name: data.report for name, data in prepared.items()}),
        identities={part: np.concatenate([data.identities[part] for data in prepared.values()]) for part in PARTS},
    )


def _part(name: str, parts: Mapping[str, Encoded]) -> Joined:
    empty = [subtask for subtask, encoded in parts.items() if not len(encoded)]
    if empty and len(empty) < len(parts):
        raise DataError(f"subtask {empty[0]}: no {name} example is left, and other subtasks have some; add data")
    return Joined.of(parts)


def _report(fingerprint: str, parts: Mapping[str, Encoded], reports: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The sums over all, and what each subtask reports alone."""
    first = next(iter(reports.values()))
    return {
        "fingerprint": fingerprint,
        **{name: first[name] for name in ("maxLength", "overLength", "unit")},
        "labels": [],
        "cleaning": {f"{name} {part}": own for name, r in reports.items() for part, own in r["cleaning"].items()},
        "heldOut": _held_out(reports),
        "augmented": sum(report["augmented"] for report in reports.values()),
        "parts": {
            part: _sums([report["parts"][part] for report in reports.values()], encoded)
            for part, encoded in parts.items()
        },
        "subtasks": dict(reports),
    }


def _held_out(reports: Mapping[str, dict[str, Any]]) -> dict[str, str]:
    """Of each part that any subtask has."""
    digests = {name: report["heldOut"] for name, report in reports.items()}
    parts = sorted({part for own in digests.values() for part in own})
    return {part: _digest([(name, own.get(part)) for name, own in digests.items()]) for part in parts}


def _digest(parts: list[tuple[str, Any]]) -> str:
    return f"sha256:{hashlib.sha256(repr(parts).encode()).hexdigest()}"


def _sums(parts: list[dict[str, Any]], encoded: Encoded) -> dict[str, Any]:
    return {
        **{name: sum(part[name] for part in parts) for name in COUNTS},
        **{name: _added([part[name] for part in parts]) for name in ("dropped", "truncated", "split")},
        "targets": int(encoded.targets.sum()),
        "lengths": length_report(encoded.lengths),
    }


def _added(counts: list[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(total)


def mixture_of(dataset: Dataset, data: Joined, batch_size: int, seed: int) -> Mixture:
    """The order of training, by weights or temperature."""
    subtasks = dataset.subtasks or []
    sizes = [len(data.parts[subtask.name]) for subtask in subtasks]
    weights = [subtask.weight for subtask in subtasks if subtask.weight is not None]
    shares = sampling_shares(sizes, weights, dataset.mixing_temperature or 1.0)
    return Mixture(sizes, shares, data.lengths, batch_size, seed)
