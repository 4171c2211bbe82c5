"""Mends texts and leaves out what is unfit, one example after another, counting both."""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from finetune_api.data_preparation import Cleaning
from finetune_trainer.data.examples import Example
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
    """Shared by the parts: what stayed in one counts as seen in the next, so the held-out ones come first."""

    def __init__(self, cleaning: Cleaning) -> None:
        self._cleaning = cleaning
        self._redactor = Redactor(cleaning.redact) if cleaning.redact else None
        self._near = None
        if cleaning.near_duplicates:
            # datasketch brings SciPy's integration, more than a second of every start.
            from finetune_trainer.data.near_duplicates import NearDuplicateIndex

            self._near = NearDuplicateIndex(cleaning.near_duplicates)
        self._seen: set[bytes] = set()

    def clean(self, part: str, examples: list[Example], tally: Tally) -> list[Example]:
        """The examples that stay.

        Raises:
            DataError: A text is empty after cleaning, or nothing stays.
        """
        kept = [mended for example in examples if (mended := self._clean(example, tally)) is not None]
        if not kept:
            reasons = ", ".join(f"{count} {rule}" for rule, count in tally.dropped.items())
            raise DataError(f"dataset.cleaning leaves nothing of dataset.{part} ({reasons}); loosen its rules")
        return kept

    def _clean(self, example: Example, tally: Tally) -> Example | None:
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
        mended = replace(example, content=with_texts(example.content, mend), target=with_texts(example.target, mend))
        tally.edited += mended != example
        if self._redactor:
            tally.redacted.update(self._redactor.counts)
            self._redactor.counts.clear()
        return mended

    def _broken_rule(self, example: Example) -> str | None:
        if self._cleaning.reads_texts:
            texts = list(texts_in(example.content))
            if not texts or not all(text.strip() for text in texts):
                return "empty"
            broken = next((rule for text in texts if (rule := broken_rule(text, self._cleaning))), None)
            if broken:
                return broken
        if self._cleaning.duplicates == "Drop":
            identity = example.identity
            if identity in self._seen:
                return "duplicate"
            self._seen.add(identity)
        if self._near and self._near.seen("\n".join(texts_in(example.content))):
            return "nearDuplicate"
        return None
