"""Holds out validation and test examples: the same seed and data give the same parts under every library version."""

import hashlib

import numpy as np

from finetune_api.dataset import Split
from finetune_trainer.data.group_split import group_parts
from finetune_trainer.data.leave_one_out import leave_one_out
from finetune_trainer.data.parts import PARTS, TEST, TRAIN, VALIDATION, Parts
from finetune_trainer.data.spool import Examples
from finetune_trainer.errors import DataError


def split_examples(examples: Examples, split: Split) -> Parts:
    """Cuts `examples` by the shares of `split`; in proportion for each stratum when it says so.

    The order is by a hash of seed and content, so that equal texts stay together, and a row added to the
    data moves few of the others.
    """
    if split.leave_one_out:
        parts = leave_one_out(examples)
    elif split.group_by is not None:
        parts = _by_groups(examples, split)
    else:
        parts = _by_shares(examples, split)
    return Parts(*(examples.chosen(parts == part) for part in range(len(PARTS))))


def _by_groups(examples: Examples, split: Split) -> np.ndarray:
    """The part of each example."""
    place = group_parts(examples, split)
    parts = np.fromiter((PARTS.index(place[e.group or ""]) for e in examples), np.int8, len(examples))
    for part, share in enumerate((1.0, split.validation, split.test)):
        if share > 0 and not (parts == part).any():
            raise DataError(
                f"dataset.split.groupBy: {len(place)} groups of {split.group_by!r} leave none for {PARTS[part]}; add "
                "data, raise its share, or group by another column"
            )
    return parts


def _by_shares(examples: Examples, split: Split) -> np.ndarray:
    """The part of each example."""
    keys, strata = _keys(examples, split)
    parts = np.full(len(examples), TRAIN, np.int8)
    ends = np.cumsum(np.bincount(strata))
    for ordered in np.split(np.lexsort((keys, strata)), ends[:-1]):
        test, validation = _counts(len(ordered), split)
        parts[ordered[:test]] = TEST
        parts[ordered[test : test + validation]] = VALIDATION
    for part, share in ((TEST, split.test), (VALIDATION, split.validation)):
        if share > 0 and not (parts == part).any():
            raise DataError(
                f"dataset.split.{PARTS[part]}: {share:g} of {len(examples)} examples is none; add data or raise the "
                "share"
            )
    return parts


def _keys(examples: Examples, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """What the order is by, and the number of the stratum, of each example."""
    keys, strata = np.empty(len(examples), np.uint64), np.zeros(len(examples), np.int32)
    names: dict[str, int] = {}
    for place, example in enumerate(examples):
        digest = hashlib.sha256(b"%d:" % split.seed + example.identity).digest()
        keys[place] = int.from_bytes(digest[:8])
        strata[place] = names.setdefault(example.stratum or "", len(names))
    if split.stratify_by is not None:
        _refuse_small_strata(dict(zip(names, np.bincount(strata).tolist(), strict=True)), split)
    return keys, strata


def _refuse_small_strata(sizes: dict[str, int], split: Split) -> None:
    needed = 1 + (split.validation > 0) + (split.test > 0)
    small = {name: count for name, count in sizes.items() if count < needed}
    if small:
        listed = ", ".join(f"{name!r} ({count})" for name, count in sorted(small.items())[:10])
        raise DataError(
            f"dataset.split.stratifyBy: every value of {split.stratify_by!r} needs at least {needed} examples, "
            f"one for each part; too few for {listed}. Add examples, merge classes or remove stratifyBy"
        )


def _counts(members: int, split: Split) -> tuple[int, int]:
    """How many of a stratum are for test and validation."""
    test, validation = _share(members, split.test), _share(members, split.validation)
    while test + validation >= members and test + validation > 0:
        test, validation = (test - 1, validation) if test > validation else (test, validation - 1)
    return test, validation


def _share(count: int, share: float) -> int:
    """At least one when the share is not zero: a held-out part must not miss a class."""
    return 0 if share == 0 else max(1, round(count * share))
