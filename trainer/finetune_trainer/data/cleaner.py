"""Mends texts and leaves out what is unfit, one example after another, counting both."""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from finetune_api.data_preparation import Cleaning
from finetune_trainer.data.examples import BadFileError, EmptyTextError, Example
from finetune_trainer.data.redaction import Redactor
from finetune_trainer.data.text_rules import broken_rule, normalised
from finetune_trainer.data.texts import texts_in, with_texts
from finetune_trainer.errors import DataError


@dataclass
class Tally:
    """What cleaning did to one source."""

    read: int = 0
    edited: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    redacted: Counter[str] = field(default_factory=Counter)

    def report(self) -> dict[str, Any]:
        """JSON of the data report."""
        return {
            "read": self.read,
            "edited": self.edited,
            "dropped": dict(sorted(self.dropped.items())),
            "redacted": dict(sorted(self.redacted.items())),
        }


class Cleaner:
    """Looks at each example by itself; what repeats is `cleaning.without_repeats`' affair."""

    def __init__(self, cleaning: Cleaning) -> None:
        self._cleaning = cleaning
        self._redactor = Redactor(cleaning.redact) if cleaning.redact else None

    def passes_over(self, error: EmptyTextError | BadFileError) -> bool:
        """Whether a row with this fault may be left out."""
        policy = self._cleaning.empty if isinstance(error, EmptyTextError) else self._cleaning.bad_files
        return policy == "Drop"

    def clean(self, example: Example, tally: Tally) -> Example | None:
        """The mended example, if it stays.

        Raises:
            DataError: Its text is empty after cleaning.
        """
        mended = self._mended(example, tally) if self._cleaning.edits else example
        rule = self._broken_rule(mended)
        if rule == "empty" and self._cleaning.empty == "Error":
            raise DataError(
                f"{example.where}: the text is empty after cleaning; remove the row, or set dataset.cleaning.empty to "
                "Drop"
            )
        if rule:
            tally.dropped[rule] += 1
        return None if rule else mended

    def _mended(self, example: Example, tally: Tally) -> Example:
        def mend(text: str) -> str:
            text = normalised(text, self._cleaning)
            return self._redactor(text) if self._redactor else text

        # A text to be written is a target; what else a target may be is not text, or the task is refused.
        target = with_texts(example.target, mend, names=())
        mended = replace(example, content=with_texts(example.content, mend), target=target)
        tally.edited += mended != example
        if self._redactor:
            tally.redacted.update(self._redactor.counts)
            self._redactor.counts.clear()
        return mended

    def _broken_rule(self, example: Example) -> str | None:
        if _is_even(example.content):
            return "indistinct"
        if not self._cleaning.reads_texts:
            return None
        texts = list(texts_in(example.content))
        if not texts or not all(text.strip() for text in texts):
            return "empty"
        return next((rule for text in texts if (rule := broken_rule(text, self._cleaning))), None)


def _is_even(content: Any) -> bool:
    """Whether it is a pair of which mending has made both completions the same: nothing is better than the other."""
    return isinstance(content, dict) and "chosen" in content and content["chosen"] == content.get("rejected")
