"""Holds out whole groups: the examples of one customer or document are never on both sides."""

import hashlib
from collections import Counter, defaultdict

from finetune_api.dataset import Split
from finetune_trainer.data.parts import PARTS
from finetune_trainer.data.spool import Examples


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


def _cost(got: Counter[str], members: Counter[str], wanted: dict[str, float]) -> float:
    """How much the squared distance from what is wanted grows, each stratum by its own measure."""
    return sum(
        ((got[s] + count - wanted[s]) ** 2 - (got[s] - wanted[s]) ** 2) / max(wanted[s], 1e-9)
        for s, count in members.items()
    )


def _hash(seed: int, name: str) -> bytes:
    return hashlib.sha256(b"%d:" % seed + name.encode()).digest()
