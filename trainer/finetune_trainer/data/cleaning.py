"""Counts what repeats, and takes out of training what is also held out."""

from collections import Counter

from finetune_trainer.data.examples import Example
from finetune_trainer.data.split import Parts
from finetune_trainer.errors import DataError


def duplicates(examples: list[Example]) -> dict[str, int]:
    """Examples that repeat an earlier one, and those of them that contradict it with another label."""
    seen: dict[bytes, str | None] = {}
    counts: Counter[str] = Counter(duplicate=0, contradictory=0)
    for example in examples:
        if example.identity not in seen:
            seen[example.identity] = example.label
        else:
            counts["duplicate"] += 1
            counts["contradictory"] += seen[example.identity] != example.label
    return dict(counts)


def without_leakage(parts: Parts) -> tuple[Parts, dict[str, int]]:
    """Removes from train what is in validation or test, and from validation what is in test.

    A text that is trained on and tested on makes the metrics better than the model. The counts say how many
    examples each part lost.
    """
    test = {example.identity for example in parts.test}
    validation = [e for e in parts.validation if e.identity not in test]
    held_out = test | {example.identity for example in validation}
    train = [e for e in parts.train if e.identity not in held_out]
    lost = {
        "train": len(parts.train) - len(train),
        "validation": len(parts.validation) - len(validation),
        "test": 0,
    }
    if parts.train and not train:
        raise DataError(
            "dataset.train: every training example is also in validation or test; use separate held-out data"
        )
    return Parts(train, validation, parts.test), lost
