"""The batches of each step, made of what the model writes."""

import logging
import math
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from finetune_api.proximal import Ppo
from finetune_trainer.data.batches import Batch
from finetune_trainer.data.order import micro_batches
from finetune_trainer.loop.feed import Feed, StepData
from finetune_trainer.ranks import Ranks
from finetune_trainer.reinforcement.experience import Experience, Sizes, experience_in, joined
from finetune_trainer.reinforcement.losses import ADVANTAGES
from finetune_trainer.reinforcement.rollouts import Rollouts

log = logging.getLogger(__name__)

SIZES = "experience_sizes"
SMALLEST_VARIANCE = 1e-8
"""Of advantages that are whitened, as in TRL."""


@dataclass(kw_only=True)
class RolloutFeed(Feed):
    """Prompts come in the order of `Feed`. What is written before a step is learnt from by `plan.updates` steps;
    between those it is part of the state."""

    rollouts: Rollouts
    ranks: Ranks
    ahead: ClassVar[bool] = False
    _experience: Experience | None = field(init=False, default=None)
    _sizes: list[Sizes] = field(init=False, default_factory=list)
    """Of each step, over all ranks."""
    _since: int = field(init=False, default=-1)
    """The step before which the experience was written."""

    def at(self, step: int) -> StepData:
        """Every rank writes for its own prompts, and learns from its own completions."""
        since = step - step % self.plan.updates
        if self._experience is None or self._since != since:
            self._write(since)
        assert self._experience is not None
        settings = self.rollouts.task.settings
        number, mini = divmod(step - since, settings.mini_batches)
        shares = self._shares(self._experience, since, number)[mini]
        pad = self.rollouts.task.ends.pad
        micro = [self._experience.batch(share.tolist(), pad) for share in shares]
        completions, tokens = self._sizes[step - since]
        return StepData(micro, tokens if settings.has_value_head else completions, tokens)

    def state(self, step: int) -> dict[str, Tensor]:
        if self._experience is None or step % self.plan.updates == 0:
            return {}
        return {**self._experience.tensors(), SIZES: torch.tensor(self._sizes)}

    def restore(self, saved: dict[str, Tensor], step: int) -> None:
        self._experience = experience_in(saved)
        if self._experience is not None:
            self._sizes = [(completions, tokens) for completions, tokens in saved[SIZES].tolist()]
            self._since = step - step % self.plan.updates

    def longest(self) -> Batch:
        """As many of the longest prompts as are computed together, with completions that never end."""
        settings = self.rollouts.task.settings
        longest = np.argsort(-self.row_tokens, kind="stable")[: self.plan.micro_batch_size]
        prompts = [self.encoded["input_ids"][self.rows[i][0]] for i in longest for _ in range(settings.group_size)]
        return self.rollouts.longest_batch(prompts)

    def _write(self, step: int) -> None:
        chosen = self.chosen(step)
        parts, rewards = [], []
        for turn, share in enumerate(micro_batches(chosen, self.rank, self.plan.world_size, self.plan.accumulation)):
            # A short last batch leaves ranks without a prompt; they write for nothing to stay in step.
            prompts = [self.rows[i][0] for i in (share if len(share) else chosen[:1])]
            seed = [self.seed, step, self.rank, turn]
            written = self.rollouts.write(self.encoded, prompts, seed, counts=len(share) > 0)
            parts.append(written.experience)
            rewards += written.rewards if len(share) else []
        experience = joined(parts)
        everywhere = self.ranks.gather((rewards, self._own_sizes(experience, step)))
        self._sizes = [
            (sum(completions for completions, _ in of_step), sum(tokens for _, tokens in of_step))
            for of_step in zip(*(sizes for _, sizes in everywhere), strict=True)
        ]
        self._experience, self._since = self._whitened(experience), step
        if self.rank == 0:
            worth = np.asarray([reward for own, _ in everywhere for reward in own])
            log.info("step %d  reward %.4f ± %.4f of %d completions", step + 1, worth.mean(), worth.std(), len(worth))

    def _shares(self, experience: Experience, since: int, number: int) -> list[list[np.ndarray]]:
        mini_batches = self.rollouts.task.settings.mini_batches
        draw = (self.seed, since + number, self.rank)
        return experience.shares(mini_batches, self.plan.accumulation, draw)

    def _own_sizes(self, experience: Experience, since: int) -> list[Sizes]:
        """Of this rank's share of each step."""
        passes = self.plan.updates // self.rollouts.task.settings.mini_batches
        return [
            experience.sizes(np.concatenate(turns).tolist())
            for number in range(passes)
            for turns in self._shares(experience, since, number)
        ]

    def _whitened(self, experience: Experience) -> Experience:
        """PPO: advantages with the mean 0 and the spread 1 over all ranks."""
        settings = self.rollouts.task.settings
        if not settings.has_value_head or not (settings.ppo or Ppo()).whiten_advantages:
            return experience
        advantages = experience.extras[ADVANTAGES]
        counted = torch.cat([torch.full((experience.written(i),), c) for i, c in enumerate(experience.counted)])
        own = advantages[counted].double()
        shares = self.ranks.gather((len(own), float(own.sum()), float(own.square().sum())))
        count = sum(share[0] for share in shares)
        mean = math.fsum(share[1] for share in shares) / count
        variance = max(0.0, math.fsum(share[2] for share in shares) / count - mean**2)
        white = (advantages - mean) / math.sqrt(variance + SMALLEST_VARIANCE)
        return replace(experience, extras={**experience.extras, ADVANTAGES: white})
