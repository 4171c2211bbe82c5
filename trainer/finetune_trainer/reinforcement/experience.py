"""Completions that several steps learn from, and which of them each step takes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from finetune_trainer.data.batches import Batch
from finetune_trainer.data.draws import generator_of
from finetune_trainer.tasks.pairs import Prompted, completions_batch

PREFIX = "experience"
Sizes = tuple[int, int]
"""Completions and tokens."""


@dataclass(frozen=True)
class Experience:
    """What one rank wrote at a time, with all that a loss needs: plain tensors, so a checkpoint can hold it."""

    texts: list[Prompted]
    counted: list[bool]
    """False for completions that were only written to stay in step with other ranks."""
    extras: dict[str, Tensor]
    """One value for each written token, of all completions in turn; on the host."""

    def written(self, completion: int) -> int:
        """Its tokens."""
        ids, start = self.texts[completion]
        return len(ids) - start

    def shares(self, mini_batches: int, turns: int, draw: tuple[int, int, int]) -> list[list[np.ndarray]]:
        """The completions of every micro-batch of every step of one pass; `draw` says in which order."""
        counted = np.flatnonzero(self.counted)
        order = generator_of(*draw).permutation(counted) if mini_batches > 1 else counted
        turns = math.ceil(turns / mini_batches)
        return [np.array_split(part, turns) for part in np.array_split(order, mini_batches)]

    def sizes(self, completions: Sequence[int]) -> Sizes:
        """Of some completions."""
        return len(completions), sum(self.written(one) for one in completions)

    def batch(self, completions: Sequence[int], pad: int) -> Batch:
        """Of some completions; of the first, idle, where there are none."""
        chosen = list(completions) or [0]
        lengths = [self.written(one) for one in range(len(self.texts))]
        extras = {
            name: torch.cat([parts[one] for one in chosen])
            for name, parts in ((name, values.split(lengths)) for name, values in self.extras.items())
        }
        batch = completions_batch([self.texts[one] for one in chosen], pad)
        return replace(batch, extras=extras, idle=not len(completions))

    def tensors(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        lengths = np.asarray([len(ids) for ids, _ in self.texts])
        return {
            f"{PREFIX}/ids": torch.from_numpy(np.concatenate([ids for ids, _ in self.texts])),
            f"{PREFIX}/lengths": torch.from_numpy(lengths),
            f"{PREFIX}/starts": torch.tensor([start for _, start in self.texts]),
            f"{PREFIX}/counted": torch.tensor(self.counted),
            **{f"{PREFIX}/extras/{name}": values for name, values in self.extras.items()},
        }


def experience_in(saved: Mapping[str, Tensor]) -> Experience | None:
    """The inverse of `tensors`, if a checkpoint has some."""
    own = {name.removeprefix(f"{PREFIX}/"): values for name, values in saved.items() if name.startswith(f"{PREFIX}/")}
    if not own:
        return None
    ids = [part.numpy() for part in own["ids"].split(own["lengths"].tolist())]
    extras = {name.removeprefix("extras/"): values for name, values in own.items() if name.startswith("extras/")}
    return Experience(list(zip(ids, own["starts"].tolist(), strict=True)), own["counted"].tolist(), extras)


def joined(parts: Sequence[Experience]) -> Experience:
    """Of several turns of one rank."""
    extras: dict[str, Any] = {name: torch.cat([part.extras[name] for part in parts]) for name in parts[0].extras}
    return Experience([t for part in parts for t in part.texts], [c for part in parts for c in part.counted], extras)
