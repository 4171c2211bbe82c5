"""From the job's sources to encoded parts, once a node, cached by the content of everything that matters."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
from transformers import PreTrainedTokenizerBase

from finetune_api.augmentation import TextAugmentation
from finetune_api.data_preparation import Cleaning
from finetune_api.dataset import DataFile, DataFormat, Dataset, Split
from finetune_trainer.data.augmentation import Synonyms, augmented, read_synonyms
from finetune_trainer.data.cache import built_once
from finetune_trainer.data.cleaner import Cleaner, Tally
from finetune_trainer.data.cleaning import duplicates, without_leakage
from finetune_trainer.data.encoded import Encoded
from finetune_trainer.data.encoding import LengthLimit, encode_part
from finetune_trainer.data.examples import EmptyTextError, Example, in_group, in_stratum
from finetune_trainer.data.fingerprint import fingerprint, with_contents
from finetune_trainer.data.reading import read_rows
from finetune_trainer.data.report import part_report
from finetune_trainer.data.split import Parts, split_examples
from finetune_trainer.data.teacher import Teacher, agreement
from finetune_trainer.errors import DataError, of_field
from finetune_trainer.tasks.task import Task

FORM = 3
"""Raised when the cached files change their meaning."""
PARTS = ("train", "validation", "test")

Fetch = Callable[[str], Path]
"""Brings a URI to local disk."""


@dataclass(frozen=True)
class Selected:
    """What was read, what of it is used, and how many of each part were also held out."""

    read: Parts
    used: Parts
    leaked: dict[str, int]
    report: dict[str, Any]


@dataclass(frozen=True)
class PreparedData:
    """Encoded parts; validation and test may be empty."""

    train: Encoded
    validation: Encoded
    test: Encoded
    labels: list[str]
    fingerprint: str
    report: dict[str, Any]

    @property
    def held_out(self) -> tuple[str, Encoded] | None:
        """What the finished model is evaluated on: the test data, else the validation data."""
        if len(self.test):
            return "test", self.test
        return ("validation", self.validation) if len(self.validation) else None


def prepare(
    dataset: Dataset,
    task: Task,
    processor: Any,
    max_length: int,
    scratch: Path,
    fetch: Fetch,
    teacher: Teacher | None = None,
) -> PreparedData:
    """Reads, splits, cleans, encodes, or finds that another process of this node did.

    Raises:
        DataError: The data cannot be read or used; names file and line.
    """
    sources = {name: (_fetched(fetch, f, name), f.format) for name in PARTS if (f := _file(dataset, name))}
    augmentation = dataset.augmentation.text if dataset.augmentation else None
    words = _fetch_synonyms(fetch, augmentation)
    digest = fingerprint({**sources, **words})
    limit = LengthLimit(max_length, dataset.over_length)
    key = _key(digest, dataset, task, processor, limit, teacher)

    def build(folder: Path) -> None:
        read, cleaned = _read_parts(sources, dataset, task)
        parts, leaked = without_leakage(read)
        copies = augmented(parts.train, augmentation, _synonyms(words)) if augmentation else []
        used = Parts([*parts.train, *copies], parts.validation, parts.test)
        whole = with_contents(digest, read) if task.reads_files else digest
        report = {"fingerprint": whole, **cleaned, "augmented": len(copies)}
        if teacher:
            labels = task.labels(used)
            used = replace(used, train=teacher.taught(used.train, labels))
            report["teacher"] = {"digest": teacher.digest, "agreement": agreement(used.train, labels)}
        _write(folder, Selected(read, used, leaked, report), task, processor, limit)

    return _load(built_once(scratch / "data" / key, build))


def _fetched(fetch: Fetch, file: DataFile, part: str) -> Path:
    with of_field(f"dataset.{part}.source"):
        return fetch(file.source)


def _file(dataset: Dataset, part: str) -> DataFile | None:
    file: DataFile | None = getattr(dataset, part)
    return file


def _fetch_synonyms(fetch: Fetch, augmentation: TextAugmentation | None) -> dict[str, tuple[Path, DataFormat]]:
    if augmentation is None or augmentation.synonyms is None:
        return {}
    with of_field("dataset.augmentation.text.synonyms.source"):
        return {"synonyms": (fetch(augmentation.synonyms.source), "Auto")}


def _synonyms(source: dict[str, tuple[Path, DataFormat]]) -> Synonyms:
    return read_synonyms(row for part, place in source.items() for row in read_rows(*place, part))


def _read_parts(
    sources: dict[str, tuple[Path, DataFormat]], dataset: Dataset, task: Task
) -> tuple[Parts, dict[str, Any]]:
    """The parts, cleaned and split, and what cleaning did to each source."""
    split, cleaning = dataset.split, dataset.cleaning
    cutting = split is not None and split.cuts
    tallies = {part: Tally() for part in sources}
    read = {
        part: _read(part, *source, task, split if cutting and part == "train" else None, cleaning, tallies[part])
        for part, source in sources.items()
    }
    if cleaning is not None:
        cleaner = Cleaner(cleaning)
        # What is held out stays; what is like it leaves the training data.
        read |= {part: cleaner.clean(part, read[part], tallies[part]) for part in reversed(PARTS) if part in read}
    parts = Parts(read["train"], read.get("validation", []), read.get("test", []))
    if split is not None and cutting:
        cut = split_examples(parts.train, split)
        parts = Parts(cut.train, parts.validation + cut.validation, parts.test + cut.test)
    return parts, {"cleaning": {part: tally.report() for part, tally in tallies.items()} if cleaning else {}}


def _read(
    part: str,
    path: Path,
    data_format: DataFormat,
    task: Task,
    split: Split | None,
    cleaning: Cleaning | None,
    tally: Tally,
) -> list[Example]:
    examples = []
    for row in read_rows(path, data_format, part):
        tally.read += 1
        try:
            example = task.read(row)
        except EmptyTextError:
            if cleaning is None or cleaning.empty == "Error":
                raise
            tally.dropped["empty"] += 1
            continue
        if split and split.stratify_by:
            example = in_stratum(example, row, split.stratify_by)
        examples.append(in_group(example, row, split.group_by) if split and split.group_by else example)
    if not examples:
        raise DataError(f"dataset.{part}: {path.name} has no examples")
    return examples


def _write(folder: Path, data: Selected, task: Task, processor: Any, limit: LengthLimit) -> None:
    labels = task.labels(data.used)
    report: dict[str, Any] = {
        **data.report,
        "maxLength": limit.max_length,
        "overLength": limit.over_length,
        "labels": labels,
        "unit": task.unit,
        "parts": {},
    }
    for (name, examples), (_, before) in zip(data.used.items(), data.read.items(), strict=True):
        encoded, losses = encode_part(name, examples, task, processor, limit, labels)
        (folder / name).mkdir()
        if name == "train":
            _refuse_lost_classes(encoded, labels)
        encoded.save(folder / name)
        report["parts"][name] = part_report(
            encoded, task.unit, labels, len(before), data.leaked[name], duplicates(before), losses.report()
        )
    (folder / "report.json").write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))


def _refuse_lost_classes(encoded: Encoded, labels: list[str]) -> None:
    left = set() if encoded.labels is None else set(encoded.labels.tolist())
    for index, label in enumerate(labels):
        if index not in left:
            raise DataError(
                f"dataset.train: every example of the label {label!r} is longer than dataset.maxLength and was "
                "dropped; raise maxLength or set dataset.overLength to Truncate"
            )


def _load(folder: Path) -> PreparedData:
    report = orjson.loads((folder / "report.json").read_bytes())
    parts = {name: Encoded.load(folder / name) for name in PARTS}
    return PreparedData(**parts, labels=report["labels"], fingerprint=report["fingerprint"], report=report)


def _key(digest: str, dataset: Dataset, task: Task, processor: Any, limit: LengthLimit, teacher: Teacher | None) -> str:
    """Everything that the encoded arrays depend on."""
    parts = [
        FORM,
        digest,
        type(task).__name__,
        dataset.columns.wire(),
        dataset.layout,
        *(part.wire() if part else None for part in (dataset.split, dataset.cleaning, dataset.augmentation)),
        [limit.max_length, limit.over_length],
        _identity(processor),
        teacher.digest if teacher else None,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _identity(processor: Any) -> Any:
    """Equal for processors that give the same numbers."""
    if not isinstance(processor, PreTrainedTokenizerBase):
        return processor.to_dict() if hasattr(processor, "to_dict") else None
    backend = getattr(processor, "backend_tokenizer", None)
    model = backend.to_str() if backend is not None else json.dumps(processor.get_vocab(), sort_keys=True)
    return [
        hashlib.sha256(model.encode()).hexdigest(),
        processor.chat_template,
        processor.eos_token,
        processor.bos_token,
    ]
