"""Holds out whole groups: the examples of one customer or document are never on both sides."""

import hashlib
from collections import Counter, defaultdict

import numpy as np

from finetune_api.dataset import Split
from finetune_trainer.data.parts import PARTS, Parts
from finetune_trainer.data.spool import Examples
from finetune_trainer.errors import DataError


def group_parts(examples: Examples, split: Split) -> dict[str, str]:
    """The part of each group.

    Greedily, the largest group first, each to the part that then lies nearest to its share of every stratum, as
    scikit-learn's StratifiedGroupKFold does; groups of one size in the order of a hash of seed and name.
    """
    strata: dict[str, Counter[str]] = defaultdict(Counter)
    for example in examples:
        strata[example.group or ""][example.stratum or ""] += 1
    shares = {"validation": split.validation, "test": split.test}
    shares["train"] = 1 - split.validation - split.test
    total = sum(strata.values(), Counter[str]())
    wanted = {part: {s: shares[part] * count for s, count in total.items()} for part in PARTS if shares[part] > 0}
    got: dict[str, Counter[str]] = {part: Counter() for part in wanted}
    chosen: dict[str, str] = {}
    for group in sorted(strata, key=lambda name: (-strata[name].total(), _hash(split.seed, name))):
        best = min(wanted, key=lambda part: _cost(got[part], strata[group], wanted[part]))
        chosen[group] = best
        got[best] += strata[group]
    return chosen


def without_held_out_groups(parts: Parts) -> Parts:
    """Train without the groups of validation and test, validation without those of test: of data in files of its own.

    Raises DataError when nothing is left to train on.
    """
    tested = _names(parts.test)
    train = _outside(parts.train, tested | _names(parts.validation))
    if not len(train):
        raise DataError("dataset.train: every group is also in validation or test; use other groups for them")
    validation = _outside(parts.validation, tested)
    if len(parts.validation) and not len(validation):
        raise DataError("dataset.validation: every group is also in test; use other groups for it")
    return Parts(train, validation, parts.test)


def _names(examples: Examples) -> set[str | None]:
    return {example.group for example in examples}


def _outside(examples: Examples, groups: set[str | None]) -> Examples:
    return examples.chosen(np.array([example.group not in groups for example in examples], bool))


def _cost(got: Counter[str], members: Counter[str], wanted: dict[str, float]) -> float:
    """How much the squared distance from what is wanted grows, each stratum by its own measure."""
    return sum(
        ((got[s] + count - wanted[s]) ** 2 - (got[s] - wanted[s]) ** 2) / max(wanted[s], 1e-9)
        for s, count in members.items()
    )


def _hash(seed: int, name: str) -> bytes:
    return hashlib.sha256(b"%d:" % seed + name.encode()).digest()
