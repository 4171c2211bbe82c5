"""Encodes a part of the data and deals with what does not fit, counting everything that is lost."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from finetune_trainer.data.chunks import chunks
from finetune_trainer.data.encoded import FIRST_PIECE, Encoded, Features, encode
from finetune_trainer.data.encoded_writer import EncodedWriter
from finetune_trainer.data.examples import Example
from finetune_trainer.errors import DataError
from finetune_trainer.tasks.task import DataTask, Splitting

AT_ONCE = 1024
"""Examples handed to the task together: a tokenizer works on them in parallel."""
MOST_LOST = 0.5
"""Share of the examples that may be lost to the length limit before the run is refused."""


@dataclass(frozen=True)
class LengthLimit:
    """How long an example may be, in tokens, and what becomes of a longer one."""

    max_length: int
    over_length: Literal["Error", "Drop", "Truncate", "Split"]


@dataclass
class Losses:
    """What the length limit cost one part."""

    kept: int = 0
    over_length: int = 0
    nothing_to_learn: int = 0
    unscored: int = 0
    """Held-out examples of which nothing is left to score: they stay, and count as wrong."""
    truncated_examples: int = 0
    truncated_tokens: int = 0
    truncated_targets: int = 0
    split_examples: int = 0
    split_pieces: int = 0
    idle_pieces: int = 0
    """Of them without anything to learn: left out of training."""

    def report(self) -> dict[str, Any]:
        """JSON of the data report."""
        return {
            "kept": self.kept,
            "dropped": {"overLength": self.over_length, "nothingToLearn": self.nothing_to_learn},
            "truncated": {
                "examples": self.truncated_examples,
                "tokens": self.truncated_tokens,
                "targets": self.truncated_targets,
            },
            "split": {
                "examples": self.split_examples,
                "pieces": self.split_pieces,
                "withoutTargets": self.idle_pieces,
            },
            "unscored": self.unscored,
        }


@dataclass(frozen=True)
class Fitting:
    """Makes examples of one part fit, and counts what that costs.

    No held-out example is left out: the metrics would be those of the short ones alone. One that is too long is cut,
    whatever becomes of such a one in training, and what the cut took counts as wrong.
    """

    part: str
    task: DataTask
    processor: Any
    limit: LengthLimit
    labels: list[str]
    losses: Losses

    @property
    def learns(self) -> bool:
        """Whether this is training data."""
        return self.part == "train"

    def fitted(self, example: Example, features: Features) -> list[Features]:
        """The example as it is used, in pieces where it is split; [] when it is left out."""
        pieces = self._shortened(example, features)
        with_targets = [piece for piece in pieces if piece.targets]
        if pieces and not with_targets:
            return self._without_targets(pieces)
        self.losses.kept += bool(pieces)
        if not self.learns:
            return pieces
        self.losses.idle_pieces += len(pieces) - len(with_targets)
        return with_targets

    def _shortened(self, example: Example, features: Features) -> list[Features]:
        length = features.length if features.longest is None else features.longest
        if length <= self.limit.max_length:
            return [features]
        if example.altered and self.limit.over_length in ("Error", "Drop"):
            self.losses.over_length += 1  # by longer synonyms: nobody's mistake
            return []
        if self.limit.over_length == "Error":
            others = "Drop, Truncate or Split" if isinstance(self.task, Splitting) else "Drop or Truncate"
            raise DataError(
                f"{example.where}: {length} {self.task.unit}, but dataset.maxLength is {self.limit.max_length}; "
                f"raise it, shorten the example, or set dataset.overLength to {others}"
            )
        if self.limit.over_length == "Drop" and self.learns:
            self.losses.over_length += 1
            return []
        if self.limit.over_length == "Split":
            return self._split(example, features)
        return [self._truncated(example, features)]

    def _split(self, example: Example, features: Features) -> list[Features]:
        assert isinstance(self.task, Splitting), "validation refuses other tasks"
        pieces = self.task.pieces(example, features, self.processor, self.labels, self.limit.max_length)
        self.losses.split_examples += 1
        self.losses.split_pieces += len(pieces)
        return pieces

    def _truncated(self, example: Example, features: Features) -> Features:
        shortened = self.task.truncate(example, features, self.processor, self.labels, self.limit.max_length)
        self.losses.truncated_examples += 1
        self.losses.truncated_tokens += features.length - shortened.length
        self.losses.truncated_targets += features.targets - shortened.targets
        return shortened

    def _without_targets(self, pieces: list[Features]) -> list[Features]:
        if self.learns:
            self.losses.nothing_to_learn += 1
            return []
        self.losses.kept += 1
        self.losses.unscored += 1
        return pieces


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
    fitting = Fitting(part, task, processor, limit, labels, losses)
    writer = EncodedWriter(folder)
    for chunk in chunks(examples, AT_ONCE):
        read += len(chunk)
        features = zip(chunk, task.encode(chunk, processor, labels), strict=True)
        kept: list[Features] = []
        for example, found in features:
            pieces = fitting.fitted(example, found)
            kept += _told_apart(pieces, writer.count + len(kept)) if limit.over_length == "Split" else pieces
        if kept:
            writer.add(encode(kept))
    encoded = writer.close()
    _refuse_great_loss(part, read, losses, limit)
    return encoded, losses


def _told_apart(pieces: list[Features], first: int) -> list[Features]:
    return [replace(piece, columns={**piece.columns, FIRST_PIECE: [first]}) for piece in pieces]


def _refuse_great_loss(part: str, read: int, losses: Losses, limit: LengthLimit) -> None:
    lost = losses.over_length + losses.nothing_to_learn + losses.unscored
    if not read or lost <= MOST_LOST * read:
        return
    reasons = []
    if losses.over_length:
        reasons.append(f"{losses.over_length} longer than dataset.maxLength ({limit.max_length})")
    if losses.nothing_to_learn:
        reasons.append(f"{losses.nothing_to_learn} with nothing left to learn after cutting")
    if losses.unscored:
        reasons.append(f"{losses.unscored} with nothing left to score after cutting")
    raise DataError(
        f"dataset.{part}: {lost} of {read} examples would be lost: {' and '.join(reasons)}; raise dataset.maxLength, "
        "or shorten the examples"
    )
