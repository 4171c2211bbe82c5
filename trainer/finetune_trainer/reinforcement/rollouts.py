"""From prompts to what can be learnt from: completions of the model as it is, their rewards, their advantages."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from finetune_api.proximal import Ppo
from finetune_trainer.data.batches import Batch
from finetune_trainer.data.encoded import Encoded
from finetune_trainer.loop.forward import precision_context
from finetune_trainer.reinforcement.advantages import generalized_advantages, grpo_advantages, rloo_advantages
from finetune_trainer.reinforcement.experience import Experience
from finetune_trainer.reinforcement.losses import ADVANTAGES, EXPECTED, REFERENCE, RETURNS, WEIGHTS, WRITTEN
from finetune_trainer.reinforcement.rewards import Rewards, completions_of
from finetune_trainer.reinforcement.writing import left_padded, sampled, until_end
from finetune_trainer.tasks.pairs import Prompted, completions_batch
from finetune_trainer.tasks.reinforcement_learning import Answers, ReinforcementLearning, row_of


@dataclass(frozen=True)
class Written:
    """Completions, and what is told of them."""

    experience: Experience
    rewards: list[float]


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

    def write(self, encoded: Encoded, prompts: Sequence[int], seed: Sequence[int], counts: bool = True) -> Written:
        """A group of completions for each prompt. The same weights and seed give the same."""
        settings, ends = self.task.settings, self.task.ends
        rows = [prompt for prompt in prompts for _ in range(settings.group_size)]
        asked = [encoded["input_ids"][row] for row in rows]
        inputs = {k: v.to(self.device) for k, v in left_padded(asked, ends.pad).items()}
        with self._answering():
            tokens = sampled(self.policy, inputs, settings.max_new_tokens, ends, settings.temperature, seed).cpu()
            texts = prompted(asked, until_end(tokens, ends.ends))
            rewards = torch.tensor(
                self.rewards.of(completions_of([row_of(encoded, row) for row in rows], tokens, self.processor)),
                dtype=torch.float64,
            )
            extras = self._extras(texts, rewards)
        return Written(Experience(texts, [counts] * len(texts), extras), rewards.tolist())

    def longest_batch(self, prompts: list[np.ndarray]) -> Batch:
        """Completions that never end, worth nothing."""
        settings = self.task.settings
        filler = [self.task.ends.pad] * settings.max_new_tokens
        batch = completions_batch(prompted(prompts, [filler] * len(prompts)), self.task.ends.pad)
        names = (ADVANTAGES, WEIGHTS, REFERENCE, EXPECTED, RETURNS)
        return replace(batch, extras=dict.fromkeys(names, torch.zeros(len(batch.targets)))).to(self.device)

    def _extras(self, texts: list[Prompted], rewards: Tensor) -> dict[str, Tensor]:
        settings = self.task.settings
        lengths = [len(ids) - start for ids, start in texts]
        batch = completions_batch(texts, self.task.ends.pad).to(self.device)
        reference = self._reference(batch) if self.reference else torch.zeros(len(batch.targets))
        extras = {REFERENCE: reference, WEIGHTS: torch.ones(len(batch.targets))}
        own = None
        if settings.compares_with_written or (settings.algorithm == "RLOO" and self.reference):
            own = self.task.answers(self.policy, batch)
        if own and settings.compares_with_written:
            extras[WRITTEN] = own.log_probabilities.cpu()
        if own and own.values is not None:
            return extras | self._of_tokens(rewards, own, reference, lengths)
        if own and settings.algorithm == "RLOO":
            moved = (own.log_probabilities.cpu() - reference).double().split(lengths)
            rewards = rewards - settings.beta * torch.stack([part.sum() for part in moved])
        groups = rewards.view(-1, settings.group_size)
        advantages = grpo_advantages(groups) if settings.algorithm == "GRPO" else rloo_advantages(groups)
        each = torch.tensor(lengths)
        extras[ADVANTAGES] = advantages.flatten().repeat_interleave(each).float()
        if settings.algorithm == "GRPO":  # counts each completion alike, whatever its length
            extras[WEIGHTS] = (1 / each).repeat_interleave(each)
        return extras

    def _of_tokens(self, rewards: Tensor, own: Answers, reference: Tensor, lengths: list[int]) -> dict[str, Tensor]:
        """PPO: each token pays for moving away, and the last one earns the reward."""
        settings, ppo = self.task.settings, self.task.settings.ppo or Ppo()
        assert own.values is not None
        expected = own.values.cpu()
        paid = torch.zeros(len(expected), dtype=torch.float64)
        if self.reference:
            paid -= settings.beta * (own.log_probabilities.cpu() - reference).double()
        paid[torch.tensor(lengths).cumsum(0) - 1] += rewards
        advantages = torch.cat(
            [
                generalized_advantages(earned, values, ppo.gamma, ppo.gae_lambda)
                for earned, values in zip(paid.split(lengths), expected.double().split(lengths), strict=True)
            ]
        )
        returns = advantages + expected.double()
        return {ADVANTAGES: advantages.float(), EXPECTED: expected, RETURNS: returns.float()}

    def _reference(self, batch: Batch) -> Tensor:
        assert self.reference is not None
        with self.reference() as model:
            return self.task.log_probabilities(model, batch).cpu()

    @contextmanager
    def _answering(self) -> Iterator[None]:
        training = self.policy.training
        self.policy.eval()
        with torch.no_grad(), precision_context(self.precision, self.device):
            yield
        self.policy.train(training)


def prompted(prompts: list[np.ndarray], completions: list[list[int]]) -> list[Prompted]:
    """Each completion behind its prompt."""
    return [(np.concatenate([p, c]).astype(np.int64), len(p)) for p, c in zip(prompts, completions, strict=True)]
