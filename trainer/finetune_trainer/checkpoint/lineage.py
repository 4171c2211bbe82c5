"""What a checkpoint belongs to, and whether a run may go on from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from finetune_trainer.errors import ConfigurationError, DataError

SHOWN = 5
"""Names in an error; the rest is counted."""


@dataclass(frozen=True)
class Lineage:
    """What the run is made of, recorded in every checkpoint and compared on resume."""

    fingerprint: str = ""
    """Of the data and its order; the saved data position means nothing for other data."""
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    """JSON values by name, such as {"learningRate": 2e-4}."""
    versions: Mapping[str, str] = field(default_factory=dict)

    def check_fingerprint(self, saved: str, where: str) -> None:
        """Refuse to go on with other data.

        Raises:
            DataError: The data changed since the checkpoint was written.
        """
        if saved and self.fingerprint and saved != self.fingerprint:
            raise DataError(
                f"{where}: the training data changed since this checkpoint was written (fingerprint {saved[:16]}, now "
                f"{self.fingerprint[:16]}); bring the old data back, or start a new job with another checkpoint.storage"
            )

    def changed_hyperparameters(self, saved: Mapping[str, Any]) -> list[str]:
        """Every hyper-parameter that differs, as `name: old → new`."""
        now = self.hyperparameters
        return [
            f"{name}: {saved.get(name)} → {now.get(name)}"
            for name in sorted({*saved, *now})
            if saved.get(name) != now.get(name)
        ]


def check_trainable(saved: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Refuse weights of another model or method.

    Raises:
        ConfigurationError: Names or shapes differ; the message says which.
    """
    problems = [f"{name} is missing" for name in sorted(expected.keys() - saved.keys())]
    problems += [f"{name} is unknown" for name in sorted(saved.keys() - expected.keys())]
    problems += [
        f"{name} has shape {list(saved[name])}, expected {list(shape)}"
        for name, shape in sorted(expected.items())
        if name in saved and saved[name] != shape
    ]
    if problems:
        more = f" and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise ConfigurationError(
            f"{where}: these are not the weights of this job: {'; '.join(problems[:SHOWN])}{more}; "
            "keep model and method as they were, or start a new job with another checkpoint.storage"
        )
