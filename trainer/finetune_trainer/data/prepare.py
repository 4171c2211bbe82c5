"""From the job's sources to encoded parts, once a node, cached by the content of everything that matters."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from transformers import PreTrainedTokenizerBase

from finetune_api.augmentation import TextAugmentation
from finetune_api.dataset import DataFile, DataFormat, Dataset, Split
from finetune_trainer.data.augmentation import Synonyms, augmented, read_synonyms
from finetune_trainer.data.cache import built_once
from finetune_trainer.data.cleaner import Cleaner, Tally
from finetune_trainer.data.cleaning import duplicates, unlike_held_out, without_leakage, without_repeats
from finetune_trainer.data.encoded import Encoded
from finetune_trainer.data.encoding import LengthLimit, encode_part
from finetune_trainer.data.examples import BadFileError, EmptyTextError, Example, in_group, in_stratum
from finetune_trainer.data.fingerprint import fingerprint, held_out, with_contents
from finetune_trainer.data.group_split import without_held_out_groups
from finetune_trainer.data.parts import PARTS, SYNONYMS, Parts, field_of
from finetune_trainer.data.reading import Row, read_rows, rows_of
from finetune_trainer.data.report import part_report
from finetune_trainer.data.split import split_examples
from finetune_trainer.data.spool import Examples, Spool
from finetune_trainer.data.teacher import Teacher, agreement
from finetune_trainer.errors import DataError, of_field
from finetune_trainer.models.tokenizer import CHAT_DATE
from finetune_trainer.tasks.task import Configured, DataTask, Reporting

IDENTITIES = "identities.npy"
FORM = 6
"""Raised when the cached files change their meaning."""

Fetch = Callable[[str], Path]
"""Brings a URI to local disk."""
Lost = dict[str, int]
"""Examples by the rule that they were left out by."""


@dataclass(frozen=True)
class Selected:
    """What was read, and what of it is used."""

    read: Parts
    used: Parts
    lost: dict[str, Lost]
    """Of each part, how many were held out too, by what."""
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
    identities: dict[str, np.ndarray]
    """Of each part: a hash of task and input of each example that was to be encoded. uint64."""

    @property
    def held_out(self) -> tuple[str, Encoded] | None:
        """What the finished model is evaluated on: the test data, else the validation data."""
        if len(self.test):
            return "test", self.test
        return ("validation", self.validation) if len(self.validation) else None


def prepare(
    dataset: Dataset,
    task: DataTask,
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
    places = [str(path) for path, _ in sources.values()] if task.reads_files else []
    key = _key(digest, dataset, task, processor, limit, teacher, places)

    def build(folder: Path) -> None:
        with closing(Spool(folder)) as spool:
            read, outside, cleaned = _read_parts(sources, dataset, task, spool, folder)
            parts, leaked = without_leakage(read)
            lost = {name: {"alsoHeldOut": leaked[name], **outside.get(name, {})} for name in PARTS}
            copies = augmented(parts.train, augmentation, _synonyms(words)) if augmentation else iter(())
            used = replace(parts, train=parts.train + unlike_held_out(spool.add(copies), parts))
            whole = with_contents(digest, read) if task.reads_files else digest
            report = {"fingerprint": whole, **cleaned, "augmented": len(used.train) - len(parts.train)}
            if teacher:
                labels = task.labels(used)
                used = replace(used, train=spool.add(teacher.taught(used.train, labels)))
                report["teacher"] = {"digest": teacher.digest, "agreement": agreement(used.train, labels)}
            _write(folder, Selected(read, used, lost, report), task, processor, limit)

    return _load(built_once(scratch / "data" / key, build))


def _fetched(fetch: Fetch, file: DataFile, part: str) -> Path:
    with of_field(f"{field_of(part)}.source"):
        folder = fetch(file.source)
    return rows_of(file, folder, field_of(part))


def _file(dataset: Dataset, part: str) -> DataFile | None:
    file: DataFile | None = getattr(dataset, part)
    return file


def _fetch_synonyms(fetch: Fetch, augmentation: TextAugmentation | None) -> dict[str, tuple[Path, DataFormat]]:
    if augmentation is None or augmentation.synonyms is None:
        return {}
    with of_field(f"{field_of(SYNONYMS)}.source"):
        return {SYNONYMS: (fetch(augmentation.synonyms.source), "Auto")}


def _synonyms(source: dict[str, tuple[Path, DataFormat]]) -> Synonyms:
    return read_synonyms(row for part, place in source.items() for row in read_rows(*place, field_of(part)))


def _read_parts(
    sources: dict[str, tuple[Path, DataFormat]], dataset: Dataset, task: DataTask, spool: Spool, scratch: Path
) -> tuple[Parts, dict[str, Lost], dict[str, Any]]:
    """The parts, cleaned and split, what they lost to held-out groups, and what cleaning did to each source."""
    split, cleaning = dataset.split, dataset.cleaning
    cutting = split is not None and split.cuts
    cleaner = Cleaner(cleaning) if cleaning is not None else None
    tallies = {part: Tally() for part in sources}
    read = {}
    for part, source in sources.items():
        rows = read_rows(*source, field_of(part))
        columns = split if cutting else None
        examples = _examples(rows, task, columns, cleaner, tallies[part], in_strata=part == "train")
        read[part] = spool.add(examples)
        if not tallies[part].read:
            raise DataError(f"dataset.{part}: {source[0].name} has no examples")
    if cleaning is not None:
        read = without_repeats(read, cleaning, tallies, scratch)
    nothing = spool.add(iter(()))
    parts, outside = Parts(read["train"], read.get("validation", nothing), read.get("test", nothing)), dict[str, Lost]()
    if split is not None and cutting:
        if split.group_by is not None:
            whole, parts = parts, without_held_out_groups(parts)
            pairs = zip(whole.items(), parts.items(), strict=True)
            outside = {name: {"groupHeldOut": len(before) - len(left)} for (name, before), (_, left) in pairs}
        cut = split_examples(parts.train, split)
        parts = Parts(cut.train, parts.validation + cut.validation, parts.test + cut.test)
    return parts, outside, {"cleaning": {part: tally.report() for part, tally in tallies.items()} if cleaning else {}}


def _examples(
    rows: Iterable[Row],
    task: DataTask,
    split: Split | None,
    cleaner: Cleaner | None,
    tally: Tally,
    *,
    in_strata: bool = True,
) -> Iterator[Example]:
    """One after the other, those that a rule drops left out."""
    for row in rows:
        tally.read += 1
        try:
            example = task.read(row)
        except (EmptyTextError, BadFileError) as error:
            if cleaner is None or not cleaner.passes_over(error):
                raise
            tally.dropped[error.rule] += 1
            continue
        if split and split.stratify_by and in_strata:
            example = in_stratum(example, row, split.stratify_by)
        if split and split.group_by:
            example = in_group(example, row, split.group_by)
        stays = cleaner.clean(example, tally) if cleaner else example
        if stays is not None:
            yield stays


def _write(folder: Path, data: Selected, task: DataTask, processor: Any, limit: LengthLimit) -> None:
    labels = task.labels(data.used)
    report: dict[str, Any] = {
        **data.report,
        "maxLength": limit.max_length,
        "overLength": limit.over_length,
        "labels": labels,
        "unit": task.unit,
        "heldOut": held_out(data.used),
        "parts": {},
    }
    for (name, examples), (_, before) in zip(data.used.items(), data.read.items(), strict=True):
        (folder / name).mkdir()
        np.save(folder / name / IDENTITIES, _identities(examples, task))
        encoded, losses = encode_part(name, examples, task, processor, limit, labels, folder / name)
        if name == "train":
            _refuse_lost_classes(encoded, labels)
        report["parts"][name] = part_report(
            encoded, task.unit, labels, len(before), data.lost[name], duplicates(before), losses.report()
        )
        if isinstance(task, Reporting):
            task.complete_report(report["parts"][name], encoded)
    (folder / "report.json").write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))


def _identities(examples: Examples, task: DataTask) -> np.ndarray:
    """Others in each task: who has read texts, as further pre-training does, has not seen the labels of any."""
    return examples.identities()[:, 0] ^ np.frombuffer(hashlib.sha256(task.name.encode()).digest()[:8], np.uint64)


def _refuse_lost_classes(encoded: Encoded, labels: list[str]) -> None:
    counts = dict(zip(labels, encoded.label_counts(len(labels)).tolist(), strict=True))
    for label, count in counts.items():
        # Entities of one word each have tokens that begin them, and none inside.
        begins = counts.get(f"B-{label[2:]}", 0) if label.startswith("I-") else 0
        if not count and not begins:
            raise DataError(
                f"dataset.train: every example of the label {label!r} is longer than dataset.maxLength and was "
                "dropped; raise maxLength or set dataset.overLength to Truncate"
            )


def _load(folder: Path) -> PreparedData:
    report = orjson.loads((folder / "report.json").read_bytes())
    parts = {name: Encoded.load(folder / name) for name in PARTS}
    identities = {name: np.load(folder / name / IDENTITIES, mmap_mode="r") for name in PARTS}
    return PreparedData(
        **parts, labels=report["labels"], fingerprint=report["fingerprint"], report=report, identities=identities
    )


def _key(
    digest: str,
    dataset: Dataset,
    task: DataTask,
    processor: Any,
    limit: LengthLimit,
    teacher: Teacher | None,
    places: list[str],
) -> str:
    """Everything that the encoded arrays depend on; `places` are those of files that are read again for each batch."""
    parts = [
        FORM,
        digest,
        places,
        [type(task).__name__, task.encoding_settings() if isinstance(task, Configured) else None],
        dataset.columns.wire(),
        [dataset.layout, dataset.learnt_turns, CHAT_DATE.isoformat()],
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
        type(processor).__name__,
        hashlib.sha256(model.encode()).hexdigest(),
        processor.chat_template,
        {name: str(token) for name, token in processor.special_tokens_map.items()},
        processor.truncation_side,
        [getattr(processor, name, None) for name in ("add_bos_token", "add_eos_token", "split_special_tokens")],
    ]
