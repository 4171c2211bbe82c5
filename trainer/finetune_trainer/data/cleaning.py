"""What repeats: counted, left out where cleaning says so, and taken out of training where it is also held out."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from finetune_api.data_preparation import Cleaning
from finetune_trainer.data.cleaner import Tally
from finetune_trainer.data.parts import PARTS, Parts
from finetune_trainer.data.spool import Examples
from finetune_trainer.data.texts import texts_in
from finetune_trainer.errors import DataError


def first_of_each(identities: np.ndarray) -> np.ndarray:
    """For each row of (n, 2) numbers, the place of the first that is equal."""
    order = np.lexsort((identities[:, 1], identities[:, 0]))
    starts = np.zeros(len(order), np.int64)
    if len(order):
        changes = (np.diff(identities[order].astype(np.uint64), axis=0) != 0).any(axis=1)
        starts[1:] = np.maximum.accumulate(np.where(changes, np.arange(1, len(order)), 0))
    firsts = np.empty(len(order), np.int64)
    firsts[order] = order[starts]
    return firsts


def duplicates(examples: Examples) -> dict[str, int]:
    """Examples that repeat an earlier one, and those of them that contradict it with another label."""
    firsts = first_of_each(examples.identities())
    repeats = np.flatnonzero(firsts != np.arange(len(firsts)))
    contradictory = sum(examples[place].label != examples[int(firsts[place])].label for place in repeats.tolist())
    return {"duplicate": len(repeats), "contradictory": contradictory}


def without_repeats(
    parts: Mapping[str, Examples], cleaning: Cleaning, tallies: Mapping[str, Tally], scratch: Path
) -> dict[str, Examples]:
    """The parts without what repeats: what is held out stays, and what is like it leaves the training data.

    Raises:
        DataError: Nothing is left of a part.
    """
    order = [part for part in reversed(PARTS) if part in parts]
    left = dict(parts)
    if cleaning.duplicates == "Drop":
        firsts = first_of_each(np.concatenate([left[part].identities() for part in order]))
        left = _kept(left, order, firsts == np.arange(len(firsts)), "duplicate", tallies)
    if cleaning.near_duplicates:
        # datasketch brings SciPy's integration, more than a second of every start.
        from finetune_trainer.data.near_duplicates import near_duplicates

        texts = ("\n".join(texts_in(example.content)) for part in order for example in left[part])
        left = _kept(left, order, ~near_duplicates(texts, cleaning.near_duplicates, scratch), "nearDuplicate", tallies)
    for part in order:
        if not len(left[part]):
            reasons = ", ".join(f"{count} {rule}" for rule, count in tallies[part].dropped.items())
            raise DataError(f"dataset.cleaning leaves nothing of dataset.{part} ({reasons}); loosen its rules")
    return left


def _kept(
    parts: dict[str, Examples], order: list[str], stays: np.ndarray, rule: str, tallies: Mapping[str, Tally]
) -> dict[str, Examples]:
    """The examples that stay, given for all parts in one piece."""
    left, start = dict(parts), 0
    for part in order:
        chosen = stays[start : start + len(parts[part])]
        start += len(chosen)
        left[part] = parts[part].chosen(chosen)
        if lost := int((~chosen).sum()):
            tallies[part].dropped[rule] += lost
    return left


def unlike_held_out(copies: Examples, parts: Parts) -> Examples:
    """Altered copies of training examples but those that have become what is held out."""
    held_out = parts.test + parts.validation
    firsts = first_of_each((held_out + copies).identities())
    return copies.chosen(firsts[len(held_out) :] >= len(held_out))


def without_leakage(parts: Parts) -> tuple[Parts, dict[str, int]]:
    """Removes from train what is in validation or test, and from validation what is in test.

    A text that is trained on and tested on makes the metrics better than the model. The counts say how many
    examples each part lost.
    """
    held_out = len(parts.test) + len(parts.validation)
    firsts = first_of_each((parts.test + parts.validation + parts.train).identities())
    validation = parts.validation.chosen(firsts[len(parts.test) : held_out] >= len(parts.test))
    train = parts.train.chosen(firsts[held_out:] >= held_out)
    lost = {
        "train": len(parts.train) - len(train),
        "validation": len(parts.validation) - len(validation),
        "test": 0,
    }
    if len(parts.train) and not len(train):
        raise DataError(
            "dataset.train: every training example is also in validation or test; use separate held-out data"
        )
    if len(parts.validation) and not len(validation):
        raise DataError(
            "dataset.validation: every example is also in test; use other data, or remove test: the finished model is "
            "then evaluated on validation"
        )
    return Parts(train, validation, parts.test), lost
