"""From the job's sources to encoded parts, once a node, cached by the content of everything that matters."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from transformers import PreTrainedTokenizerBase

from finetune_api.dataset import DataFile, DataFormat, Dataset, Split
from finetune_trainer.data.cache import built_once
from finetune_trainer.data.cleaning import duplicates, without_leakage
from finetune_trainer.data.encoded import Encoded
from finetune_trainer.data.encoding import LengthLimit, encode_part
from finetune_trainer.data.examples import Example, in_stratum
from finetune_trainer.data.fingerprint import fingerprint
from finetune_trainer.data.reading import read_rows
from finetune_trainer.data.report import part_report
from finetune_trainer.data.split import Parts, split_examples
from finetune_trainer.errors import DataError, of_field
from finetune_trainer.tasks.task import Task

FORM = 2
"""Raised when the cached files change their meaning."""
PARTS = ("train", "validation", "test")

Fetch = Callable[[str], Path]
"""Brings a URI to local disk."""


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


def prepare(dataset: Dataset, task: Task, processor: Any, max_length: int, scratch: Path, fetch: Fetch) -> PreparedData:
    """Reads, splits, cleans, encodes, or finds that another process of this node did.

    Raises:
        DataError: The data cannot be read or used; names file and line.
    """
    sources = {name: (_fetched(fetch, f, name), f.format) for name in PARTS if (f := _file(dataset, name))}
    digest = fingerprint(sources)
    limit = LengthLimit(max_length, dataset.over_length)
    key = _key(digest, dataset, task, processor, limit)

    def build(folder: Path) -> None:
        parts = _read_parts(sources, dataset.split, task)
        _write(folder, parts, task, processor, limit, digest)

    return _load(built_once(scratch / "data" / key, build))


def _fetched(fetch: Fetch, file: DataFile, part: str) -> Path:
    with of_field(f"dataset.{part}.source"):
        return fetch(file.source)


def _file(dataset: Dataset, part: str) -> DataFile | None:
    file: DataFile | None = getattr(dataset, part)
    return file


def _read_parts(sources: dict[str, tuple[Path, DataFormat]], split: Split | None, task: Task) -> Parts:
    cutting = split is not None and split.validation + split.test > 0
    strata = {"train": split.stratify_by} if split is not None and cutting else {}
    read = {part: _read(part, *source, task, strata.get(part)) for part, source in sources.items()}
    parts = Parts(read["train"], read.get("validation", []), read.get("test", []))
    if split is not None and cutting:
        cut = split_examples(parts.train, split)
        parts = Parts(cut.train, parts.validation + cut.validation, parts.test + cut.test)
    return parts


def _read(part: str, path: Path, data_format: DataFormat, task: Task, stratify_by: str | None) -> list[Example]:
    examples = []
    for row in read_rows(path, data_format, part):
        example = task.read(row)
        examples.append(in_stratum(example, row, stratify_by) if stratify_by else example)
    if not examples:
        raise DataError(f"dataset.{part}: {path.name} has no examples")
    return examples


def _write(folder: Path, read: Parts, task: Task, processor: Any, limit: LengthLimit, digest: str) -> None:
    parts, leaked = without_leakage(read)
    labels = task.labels(parts)
    report: dict[str, Any] = {
        "fingerprint": digest,
        "maxLength": limit.max_length,
        "overLength": limit.over_length,
        "labels": labels,
        "unit": task.unit,
        "parts": {},
    }
    for (name, examples), (_, before) in zip(parts.items(), read.items(), strict=True):
        encoded, losses = encode_part(name, examples, task, processor, limit, labels)
        (folder / name).mkdir()
        if name == "train":
            _refuse_lost_classes(encoded, labels)
        encoded.save(folder / name)
        report["parts"][name] = part_report(
            encoded, task.unit, labels, len(before), leaked[name], duplicates(before), losses.report()
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


def _key(digest: str, dataset: Dataset, task: Task, processor: Any, limit: LengthLimit) -> str:
    """Everything that the encoded arrays depend on."""
    parts = [
        FORM,
        digest,
        task.name,
        dataset.columns.wire(),
        dataset.split.wire() if dataset.split else None,
        [limit.max_length, limit.over_length],
        _identity(processor),
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
