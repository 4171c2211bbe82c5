"""Training, validation and test data."""

from dataclasses import dataclass

from finetune_trainer.data.spool import Examples

PARTS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = range(3)
"""Places in `PARTS`."""


@dataclass(frozen=True)
class Parts:
    """The three parts of the data; a held-out part may be empty."""

    train: Examples
    validation: Examples
    test: Examples

    def items(self) -> list[tuple[str, Examples]]:
        """Name and examples of each part."""
        return [("train", self.train), ("validation", self.validation), ("test", self.test)]
