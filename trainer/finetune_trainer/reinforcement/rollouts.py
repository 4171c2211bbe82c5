"""From prompts to a batch to learn from: completions of the model as it is, their rewards, their advantages."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from finetune_trainer.data.batches import Batch
from finetune_trainer.data.encoded import Encoded
from finetune_trainer.data.order import micro_batches
from finetune_trainer.loop.feed import Feed, StepData
from finetune_trainer.loop.forward import precision_context
from finetune_trainer.ranks import Ranks
from finetune_trainer.reinforcement.advantages import grpo_advantages, rloo_advantages
from finetune_trainer.reinforcement.rewards import Rewards, completions_of
from finetune_trainer.reinforcement.writing import left_padded, sampled, until_end
from finetune_trainer.tasks.pairs import completions_batch
from finetune_trainer.tasks.reinforcement_learning import (
    ADVANTAGES,
    REFERENCE,
    WEIGHTS,
    ReinforcementLearning,
    row_of,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Written:
    """A batch, and what is told of it."""

    batch: Batch
    rewards: list[float]
    tokens: int


@dataclass(frozen=True)
class Rollouts:
    """Writes with the policy, which is the model in training."""

    task: ReinforcementLearning
    rewards: Rewards
    policy: Any
    reference: Callable[[], AbstractContextManager[Any]] | None
    """Gives the model as it was before training; None where nothing is paid for moving away from it."""
    processor: Any
    precision: str
    device: torch.device

    def write(self, encoded: Encoded, prompts: Sequence[int], seed: Sequence[int]) -> Written:
        """A group of completions for each prompt. The same weights and seed give the same."""
        settings = self.task.settings
        rows = [prompt for prompt in prompts for _ in range(settings.group_size)]
        asked = [encoded["input_ids"][row] for row in rows]
        inputs = {k: v.to(self.device) for k, v in left_padded(asked, self.task.ends.pad).items()}
        with self._answering():
            tokens = sampled(
                self.policy, inputs, settings.max_new_tokens, self.task.ends, settings.temperature, seed
            ).cpu()
            written = until_end(tokens, self.task.ends.end)
            batch = self.learnt_from(asked, written)
            rewards = torch.tensor(
                self.rewards.of(completions_of([row_of(encoded, row) for row in rows], tokens, self.processor)),
                dtype=torch.float64,
            )
            return Written(self._with_advantages(batch, written, rewards), rewards.tolist(), sum(map(len, written)))

    def learnt_from(self, prompts: list[np.ndarray], completions: list[list[int]]) -> Batch:
        """Each completion behind its prompt, worth nothing yet."""
        texts = [(np.concatenate([p, c]).astype(np.int64), len(p)) for p, c in zip(prompts, completions, strict=True)]
        batch = completions_batch(texts, self.task.ends.pad)
        nothing = torch.zeros(len(batch.targets))
        return replace(batch, extras=dict.fromkeys((ADVANTAGES, WEIGHTS, REFERENCE), nothing)).to(self.device)

    def _with_advantages(self, batch: Batch, written: list[list[int]], rewards: Tensor) -> Batch:
        settings = self.task.settings
        lengths = torch.tensor([len(completion) for completion in written])
        reference = self._reference(batch) if self.reference else torch.zeros(len(batch.targets))
        if settings.algorithm == "RLOO" and self.reference:
            own = self.task.token_log_probabilities(self.policy, batch).cpu()
            moved = torch.stack([part.sum() for part in (own - reference).double().split(lengths.tolist())])
            rewards = rewards - settings.beta * moved
        groups = rewards.view(-1, settings.group_size)
        advantages = grpo_advantages(groups) if settings.algorithm == "GRPO" else rloo_advantages(groups)
        # GRPO counts each completion alike, whatever its length; RLOO's is the likelihood of the whole.
        weights = 1 / lengths if settings.algorithm == "GRPO" else torch.ones(len(lengths))
        each = {
            ADVANTAGES: advantages.flatten().repeat_interleave(lengths).float(),
            WEIGHTS: weights.repeat_interleave(lengths),
            REFERENCE: reference,
        }
        return replace(batch, extras={name: values.to(self.device) for name, values in each.items()})

    def _reference(self, batch: Batch) -> Tensor:
        assert self.reference is not None
        with self.reference() as model:
            return self.task.token_log_probabilities(model, batch).cpu()

    @contextmanager
    def _answering(self) -> Iterator[None]:
        training = self.policy.training
        self.policy.eval()
        with torch.no_grad(), precision_context(self.precision, self.device):
            yield
        self.policy.train(training)


@dataclass(kw_only=True)
class RolloutFeed(Feed):
    """Makes the batches of a step from what the model writes at that step; prompts come in the order of `Feed`."""

    rollouts: Rollouts
    ranks: Ranks
    ahead: ClassVar[bool] = False

    def at(self, step: int) -> StepData:
        """Every rank writes for its own prompts."""
        chosen = self.chosen(step)
        shares = micro_batches(chosen, self.rank, self.plan.world_size, self.plan.accumulation)
        micro, rewards, tokens = [], [], 0
        for turn, share in enumerate(shares):
            # A short last batch leaves ranks without a prompt; they write for nothing to stay in step.
            prompts = [self.rows[i][0] for i in (share if len(share) else chosen[:1])]
            written = self.rollouts.write(self.encoded, prompts, [self.seed, step, self.rank, turn])
            micro.append(replace(written.batch, idle=not len(share)))
            if len(share):
                rewards += written.rewards
                tokens += written.tokens
        everywhere = self.ranks.gather((rewards, tokens))
        if self.rank == 0:
            worth = np.asarray([reward for own, _ in everywhere for reward in own])
            log.info("step %d  reward %.4f ± %.4f of %d completions", step + 1, worth.mean(), worth.std(), len(worth))
        targets = len(chosen) * self.rollouts.task.settings.group_size
        return StepData(micro, targets, sum(own for _, own in everywhere))

    def longest(self) -> Batch:
        """As many of the longest prompts as are computed together, with completions that never end."""
        settings = self.rollouts.task.settings
        longest = np.argsort(-self.row_tokens, kind="stable")[: self.plan.micro_batch_size]
        prompts = [self.encoded["input_ids"][self.rows[i][0]] for i in longest for _ in range(settings.group_size)]
        filler = [self.rollouts.task.ends.pad] * settings.max_new_tokens
        return self.rollouts.learnt_from(prompts, [filler] * len(prompts))
