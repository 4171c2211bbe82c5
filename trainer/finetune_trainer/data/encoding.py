"""Encodes a part of the data and deals with what does not fit, counting everything that is lost."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from finetune_trainer.data.chunks import chunks
from finetune_trainer.data.encoded import Encoded, Features, encode
from finetune_trainer.data.encoded_writer import EncodedWriter
from finetune_trainer.data.examples import Example
from finetune_trainer.errors import DataError
from finetune_trainer.tasks.task import DataTask

AT_ONCE = 1024
"""Examples handed to the task together: a tokenizer works on them in parallel."""
MOST_LOST = 0.5
"""Share of the training examples that may be lost to the length limit before the run is refused."""


@dataclass(frozen=True)
class LengthLimit:
    """How long an example may be, in tokens, and what becomes of a longer one."""

    max_length: int
    over_length: Literal["Error", "Drop", "Truncate"]


@dataclass
class Losses:
    """What the length limit cost one part."""

    over_length: int = 0
    nothing_to_learn: int = 0
    truncated_examples: int = 0
    truncated_tokens: int = 0

    def report(self) -> dict[str, Any]:
        """JSON of the data report."""
        return {
            "dropped": {"overLength": self.over_length, "nothingToLearn": self.nothing_to_learn},
            "truncated": {"examples": self.truncated_examples, "tokens": self.truncated_tokens},
        }


def encode_part(
    part: str,
    examples: Iterable[Example],
    task: DataTask,
    processor: Any,
    limit: LengthLimit,
    labels: list[str],
    folder: Path,
) -> tuple[Encoded, Losses]:
    """The examples that fit, as arrays in files of `folder`.

    Raises:
        DataError: An example is too long and the policy is Error, or too much was lost.
    """
    losses, read = Losses(), 0
    writer = EncodedWriter(folder)
    for chunk in chunks(examples, AT_ONCE):
        read += len(chunk)
        features = zip(chunk, task.encode(chunk, processor, labels), strict=True)
        fitting = (_fit(example, found, task, processor, limit, labels, losses) for example, found in features)
        if kept := [one for one in fitting if one is not None]:
            writer.add(encode(kept))
    encoded = writer.close()
    _refuse_great_loss(part, read, len(encoded), losses, limit)
    return encoded, losses


def _fit(
    example: Example,
    features: Features,
    task: DataTask,
    processor: Any,
    limit: LengthLimit,
    labels: list[str],
    losses: Losses,
) -> Features | None:
    length = features.length if features.longest is None else features.longest
    if length > limit.max_length:
        if limit.over_length == "Error":
            raise DataError(
                f"{example.where}: {length} {task.unit}, but dataset.maxLength is {limit.max_length}; "
                "raise it, shorten the example, or set dataset.overLength to Drop or Truncate"
            )
        if limit.over_length == "Drop":
            losses.over_length += 1
            return None
        shortened = task.truncate(example, features, processor, labels, limit.max_length)
        losses.truncated_examples += 1
        losses.truncated_tokens += features.length - shortened.length
        features = shortened
    if not features.targets:
        losses.nothing_to_learn += 1
        return None
    return features


def _refuse_great_loss(part: str, read: int, kept: int, losses: Losses, limit: LengthLimit) -> None:
    lost = read - kept
    if not read or lost <= MOST_LOST * read:
        return
    reasons = []
    if losses.over_length:
        reasons.append(f"{losses.over_length} longer than dataset.maxLength ({limit.max_length})")
    if losses.nothing_to_learn:
        reasons.append(f"{losses.nothing_to_learn} with nothing left to learn after cutting")
    raise DataError(
        f"dataset.{part}: {lost} of {read} examples would be lost: {' and '.join(reasons)}; raise dataset.maxLength, "
        "or shorten the examples"
    )
