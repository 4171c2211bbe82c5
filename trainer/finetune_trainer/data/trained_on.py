"""Which inputs a model has learnt from, in some kilobytes beside its weights, for the jobs that train it on."""

import base64
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from finetune_trainer.data.prepare import PreparedData
from finetune_trainer.errors import ConfigurationError, DataError

TRAINED_ON_FILE = "trained_on.json"
KEPT = 1 << 14
"""Hashes at most: the smallest, a sample as good as drawn, and the same whoever draws it (Cohen and Kaplan 2007)."""
MOST_SEEN = 0.05
"""Of a held-out part. Where data has grown, a split by the same seed moves some examples from one part to another."""
BY_CHANCE = 1e-3
"""How unlikely so many must be of a part of which no more than `MOST_SEEN` were seen: of few that are looked up, one or
two say little."""


@dataclass(frozen=True)
class TrainedOn:
    """Hashes of inputs."""

    hashes: np.ndarray
    """The smallest, in order, none twice. uint64."""
    whole: bool
    """Whether these are all."""

    @classmethod
    def of(cls, identities: np.ndarray) -> "TrainedOn":
        """Of the inputs with these hashes, in any order."""
        distinct = np.unique(identities)
        return cls(distinct[:KEPT], len(distinct) <= KEPT)

    @classmethod
    def joined(cls, parts: Iterable["TrainedOn"]) -> "TrainedOn":
        """All of them as one."""
        some = list(parts)
        made = cls.of(np.concatenate([one.hashes for one in some]))
        return replace(made, whole=made.whole and all(one.whole for one in some))

    def share_of(self, identities: np.ndarray) -> tuple[int, float]:
        """How many of these hashes could be looked up, and the share of them that are here."""
        known = identities if self.whole else identities[identities <= self.hashes[-1]]
        return len(known), float(np.isin(known, self.hashes).mean()) if len(known) else 0.0

    def wire(self) -> dict[str, Any]:
        """JSON."""
        return {"whole": self.whole, "hashes": base64.b64encode(self.hashes.astype("<u8").tobytes()).decode()}

    @classmethod
    def beside(cls, folder: Path, field: str) -> "TrainedOn | None":
        """Of the model in a folder; None where nobody has written it. Raises ConfigurationError when it is damaged."""
        file = folder / TRAINED_ON_FILE
        if not file.is_file():
            return None
        try:
            found = orjson.loads(file.read_bytes())
            made = cls(np.frombuffer(base64.b64decode(found["hashes"]), "<u8"), bool(found["whole"]))
            if not made.whole and not len(made.hashes):
                raise ValueError("a part of the hashes, and none")
            return made
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(f"{field}: its {TRAINED_ON_FILE} is damaged ({error}); publish it again") from None


def learnt_from(data: PreparedData, *before: TrainedOn | None) -> TrainedOn:
    """What a model has learnt from that was trained on this data, and from models that had learnt from others."""
    own = TrainedOn.of(np.asarray(data.identities["train"]))
    return TrainedOn.joined([own, *(one for one in before if one is not None)])


def unseen(data: PreparedData, before: TrainedOn | None, source: str | None) -> PreparedData:
    """The same data, whose report says how much of what is held out the model `source` had already been trained on.

    Raises:
        DataError: Too much: the metrics would be those of a model that knows the answers.
    """
    if before is None:
        return data
    found = {}
    for part in data.report["heldOut"]:
        own = np.asarray(data.identities[part])
        known, share = before.share_of(own)
        if _too_many(known, share):
            which = _looked_up(known, len(own))
            raise DataError(
                f"dataset.{part}: model.source {source} has been trained on {share:.0%} of {which} examples, so "
                "the metrics would be better than the model; hold out what was held out there (the same "
                "file, or dataset.split with the same shares and seed of the same data), or examples that it never saw"
            )
        if share:
            found[part] = {"lookedUp": known, "share": round(share, 6)}
    return replace(data, report={**data.report, "trainedOnBefore": found}) if found else data


def _too_many(known: int, share: float) -> bool:
    """Whether more than `MOST_SEEN` were seen, and not by chance: Chernoff's bound (Hoeffding 1963, theorem 1)."""
    if share <= MOST_SEEN:
        return False
    unseen_share = (1 - share) * math.log((1 - share) / (1 - MOST_SEEN)) if share < 1 else 0.0
    return known * (share * math.log(share / MOST_SEEN) + unseen_share) > -math.log(BY_CHANCE)


def _looked_up(known: int, examples: int) -> str:
    return f"these {examples}" if known == examples else f"{known} drawn from these {examples}"
