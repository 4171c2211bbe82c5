"""The batches of each step, for one rank: computed from the step's number, so any step can be had at once."""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from finetune_trainer.data.batches import AlteringCollate, Batch, Collate
from finetune_trainer.data.draws import generator_of
from finetune_trainer.data.encoded import Encoded, Ints
from finetune_trainer.data.mixture import Mixture
from finetune_trainer.data.order import Batches, DataOrder, micro_batches
from finetune_trainer.data.rows import Rows
from finetune_trainer.loop.plan import StepPlan


@dataclass(frozen=True)
class StepData:
    """This rank's micro-batches, and the sizes of the whole global batch, which every rank knows without asking."""

    micro: list[Batch]
    targets: int
    """Predictions in the loss, over all ranks: what the sum of losses is divided by."""
    tokens: int
    """Or whatever the task counts. Over all ranks, padding excluded."""


@dataclass
class Feed:
    """Training data in the order that (seed, epoch, place) says."""

    collate: Collate
    encoded: Encoded
    rows: Rows
    plan: StepPlan
    batch_size: int
    seed: int
    rank: int
    altering: AlteringCollate | None = None
    """Instead of `collate` where training examples are altered."""
    mixture: Mixture | None = None
    """The order, where the examples are those of several subtasks."""
    ahead: ClassVar[bool] = True
    """Whether batches of a step may be made while the step before it computes."""
    row_tokens: Ints = field(init=False)
    row_targets: Ints = field(init=False)
    _epoch: int = field(init=False, default=-1)
    _batches: Batches = field(init=False)

    def __post_init__(self) -> None:
        lengths, targets = np.asarray(self.encoded.lengths), np.asarray(self.encoded.targets)
        self.row_tokens, self.row_targets = self.rows.sums(lengths), self.rows.sums(targets)
        self._order = self.mixture or DataOrder(self.row_tokens, self.batch_size, self.seed)

    def at(self, step: int) -> StepData:
        """Everything that step `step` (from 0) needs."""
        epoch, _ = self.plan.epoch_of(step)
        chosen = self.chosen(step)
        shares = micro_batches(chosen, self.rank, self.plan.world_size, self.plan.accumulation)
        return StepData(
            micro=[self._batch(share, chosen, epoch) for share in shares],
            targets=int(self.row_targets[chosen].sum()),
            tokens=int(self.row_tokens[chosen].sum()),
        )

    def chosen(self, step: int) -> Ints:
        """The rows of the step's global batch."""
        epoch, place = self.plan.epoch_of(step)
        if epoch != self._epoch:
            self._batches, self._epoch = self._order.batches(epoch), epoch
        return self._batches[place]

    def state(self, step: int) -> dict[str, Tensor]:
        """What this rank must find again to go on at a step, where the step's number does not suffice."""
        return {}

    def restore(self, saved: dict[str, Tensor], step: int) -> None:
        """Goes on from what `state` gave."""

    def longest(self) -> Batch:
        """The micro-batch that needs most memory."""
        longest = np.argsort(-self.row_tokens, kind="stable")[: self.plan.micro_batch_size]
        return self._batch(longest, longest, 0)

    def shortest(self) -> Batch:
        """One row, the cheapest to try something out on."""
        place = np.argsort(self.row_tokens, kind="stable")[:1]
        return self._batch(place, place, 0)

    def _batch(self, share: Ints, chosen: Ints, epoch: int) -> Batch:
        if len(share):
            return self._collated(share, epoch)
        # A short last batch leaves ranks without a row; they compute one for nothing to stay in step.
        return replace(self._collated(chosen[:1], epoch), idle=True)

    def _collated(self, share: Ints, epoch: int) -> Batch:
        rows = [self.rows[i] for i in share]
        if self.altering is None:
            return self.collate(self.encoded, rows)
        return self.altering(self.encoded, rows, [generator_of(self.seed, epoch, int(i)) for i in share])


class DeviceFeed:
    """The batches of the feed on the device; on a GPU those of the next step are made while this one computes."""

    def __init__(self, feed: Feed, device: torch.device) -> None:
        self._feed = feed
        self._device = device
        self._ahead = ThreadPoolExecutor(1, "feed") if device.type == "cuda" and feed.ahead else None
        self._next: tuple[int, Future[StepData]] | None = None

    def at(self, step: int) -> StepData:
        """As `Feed.at`."""
        data = self._made(step)
        return StepData([batch.to(self._device) for batch in data.micro], data.targets, data.tokens)

    def _made(self, step: int) -> StepData:
        if self._ahead is None:
            return self._feed.at(step)
        data = self._next[1].result() if self._next and self._next[0] == step else self._feed.at(step)
        self._next = (step + 1, self._ahead.submit(self._feed.at, step + 1))
        return data

    def close(self) -> None:
        """End the thread."""
        if self._ahead is not None:
            self._ahead.shutdown(cancel_futures=True)
