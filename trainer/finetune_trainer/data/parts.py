"""Training, validation and test data."""

from dataclasses import dataclass

from finetune_trainer.data.spool import Examples

PARTS = ("train", "validation", "test")
SYNONYMS = "synonyms"
"""What stands beside the parts."""
TRAIN, VALIDATION, TEST = range(3)
"""Places in `PARTS`."""


def field_of(part: str) -> str:
    """Of the job: says where the part is read from."""
    return f"dataset.augmentation.text.{part}" if part == SYNONYMS else f"dataset.{part}"


@dataclass(frozen=True)
class Parts:
    """The three parts of the data; a held-out part may be empty."""

    train: Examples
    validation: Examples
    test: Examples

    def items(self) -> list[tuple[str, Examples]]:
        """Name and examples of each part."""
        return [("train", self.train), ("validation", self.validation), ("test", self.test)]
