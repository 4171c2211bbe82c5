"""Tokenises a part of the data and deals with what does not fit, counting everything that is lost."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from finetune_trainer.data.encoded import Encoded, encode_rows
from finetune_trainer.data.examples import Example
from finetune_trainer.errors import DataError
from finetune_trainer.tasks.task import Task, Tokens

AT_ONCE = 1024
"""Examples handed to the tokenizer together: it works on them in parallel."""
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
    part: str, examples: list[Example], task: Task, tokenizer: Any, limit: LengthLimit, labels: list[str]
) -> tuple[Encoded, Losses]:
    """The examples that fit, as arrays.

    Raises:
        DataError: An example is too long and the policy is Error, or too much was lost.
    """
    losses = Losses()
    kept: list[tuple[Example, Tokens]] = []
    for example, tokens in _tokenised(examples, task, tokenizer):
        fitting = _fit(example, tokens, task, tokenizer, limit, losses)
        if fitting is not None:
            kept.append((example, fitting))
    _refuse_great_loss(part, len(examples), len(kept), losses, limit)
    place = {label: index for index, label in enumerate(labels)}
    encoded = encode_rows(
        [tokens.ids for _, tokens in kept],
        labels=[place[str(example.label)] for example, _ in kept] if labels else None,
        trained=None if labels else [tokens.trained or [] for _, tokens in kept],
    )
    return encoded, losses


def _tokenised(examples: list[Example], task: Task, tokenizer: Any) -> Iterator[tuple[Example, Tokens]]:
    for start in range(0, len(examples), AT_ONCE):
        chunk = examples[start : start + AT_ONCE]
        yield from zip(chunk, task.tokenise(chunk, tokenizer), strict=True)


def _fit(
    example: Example, tokens: Tokens, task: Task, tokenizer: Any, limit: LengthLimit, losses: Losses
) -> Tokens | None:
    if len(tokens.ids) > limit.max_length:
        if limit.over_length == "Error":
            raise DataError(
                f"{example.where}: {len(tokens.ids)} tokens, but dataset.maxLength is {limit.max_length}; "
                "raise it, shorten the example, or set dataset.overLength to Drop or Truncate"
            )
        if limit.over_length == "Drop":
            losses.over_length += 1
            return None
        shortened = task.truncate(example, tokens, tokenizer, limit.max_length)
        losses.truncated_examples += 1
        losses.truncated_tokens += len(tokens.ids) - len(shortened.ids)
        tokens = shortened
    if not tokens.learnable:
        losses.nothing_to_learn += 1
        return None
    return tokens


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
