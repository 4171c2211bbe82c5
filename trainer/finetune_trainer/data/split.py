"""Holds out validation and test examples: the same seed and data give the same parts under every library version."""

import hashlib
from collections import defaultdict
from dataclasses import dataclass

from finetune_api.dataset import Split
from finetune_trainer.data.examples import Example
from finetune_trainer.data.group_split import group_parts
from finetune_trainer.data.leave_one_out import leave_one_out
from finetune_trainer.errors import DataError


@dataclass(frozen=True)
class Parts:
    """The three parts of the data; a held-out part may be empty."""

    train: list[Example]
    validation: list[Example]
    test: list[Example]

    def items(self) -> list[tuple[str, list[Example]]]:
        """Name and examples of each part."""
        return [("train", self.train), ("validation", self.validation), ("test", self.test)]


def split_examples(examples: list[Example], split: Split) -> Parts:
    """Cuts `examples` by the shares of `split`; in proportion for each stratum when it says so.

    The order is by a hash of seed and content, so that equal texts stay together, and a row added to the
    data moves few of the others.
    """
    if split.leave_one_out:
        return Parts(*leave_one_out(examples))
    if split.group_by is not None:
        return _by_groups(examples, split)
    if split.stratify_by is None:
        groups = {"": examples}
    else:
        groups = _strata(examples, split)
    cuts = {name: _cut(members, split) for name, members in groups.items()}
    _refuse_empty_parts(cuts, split, len(examples))
    chosen: dict[int, str] = {}
    for test, validation in cuts.values():
        chosen.update(dict.fromkeys(map(id, test), "test"))
        chosen.update(dict.fromkeys(map(id, validation), "validation"))
    parts: dict[str, list[Example]] = {"train": [], "validation": [], "test": []}
    for example in examples:
        parts[chosen.get(id(example), "train")].append(example)
    return Parts(**parts)


def _by_groups(examples: list[Example], split: Split) -> Parts:
    place = group_parts(examples, split)
    parts = Parts([], [], [])
    members = dict(parts.items())
    for example in examples:
        members[place[example.group or ""]].append(example)
    for name, share in (("train", 1.0), ("validation", split.validation), ("test", split.test)):
        if share > 0 and not members[name]:
            raise DataError(
                f"dataset.split.groupBy: {len(place)} groups of {split.group_by!r} leave none for {name}; add data, "
                "raise its share, or group by another column"
            )
    return parts


def _strata(examples: list[Example], split: Split) -> dict[str, list[Example]]:
    groups: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        groups[example.stratum or ""].append(example)
    needed = 1 + (split.validation > 0) + (split.test > 0)
    small = {name: len(members) for name, members in groups.items() if len(members) < needed}
    if small:
        listed = ", ".join(f"{name!r} ({count})" for name, count in sorted(small.items())[:10])
        raise DataError(
            f"dataset.split.stratifyBy: every value of {split.stratify_by!r} needs at least {needed} examples, "
            f"one for each part; too few for {listed}. Add examples, merge classes or remove stratifyBy"
        )
    return dict(sorted(groups.items()))


def _cut(members: list[Example], split: Split) -> tuple[list[Example], list[Example]]:
    ordered = sorted(members, key=lambda e: hashlib.sha256(b"%d:" % split.seed + e.identity).digest())
    test = _share(len(members), split.test)
    validation = _share(len(members), split.validation)
    while test + validation >= len(members) and test + validation > 0:
        test, validation = (test - 1, validation) if test > validation else (test, validation - 1)
    return ordered[:test], ordered[test : test + validation]


def _share(count: int, share: float) -> int:
    """At least one when the share is not zero: a held-out part must not miss a class."""
    return 0 if share == 0 else max(1, round(count * share))


def _refuse_empty_parts(cuts: dict[str, tuple[list[Example], list[Example]]], split: Split, total: int) -> None:
    for index, (name, share) in enumerate([("test", split.test), ("validation", split.validation)]):
        if share > 0 and not any(cut[index] for cut in cuts.values()):
            raise DataError(f"dataset.split.{name}: {share:g} of {total} examples is none; add data or raise the share")
