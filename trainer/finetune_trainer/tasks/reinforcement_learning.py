"""Learns from rewards for its own completions: GRPO, RLOO and PPO."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import orjson
import torch
from peft import TaskType
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from finetune_api.dataset import Columns
from finetune_api.proximal import Ppo
from finetune_api.reinforcement import Reinforcement
from finetune_serving.conversation import end_tokens, prompt_tokens
from finetune_trainer.data.batches import Batch, Collate
from finetune_trainer.data.encoded import Encoded, Features
from finetune_trainer.data.examples import Example, text_column
from finetune_trainer.data.reading import Row
from finetune_trainer.data.rows import RowOfExamples
from finetune_trainer.errors import DataError
from finetune_trainer.metrics.rewards import RewardScores
from finetune_trainer.reinforcement.losses import entropies, policy_losses, value_losses
from finetune_trainer.reinforcement.reward_models import RewardModels
from finetune_trainer.reinforcement.rewards import Rewards, columns_read
from finetune_trainer.reinforcement.value_head import last_hidden, value_head
from finetune_trainer.reinforcement.writing import Ends, greedy, left_padded
from finetune_trainer.tasks.chat import template_refusals
from finetune_trainer.tasks.cross_entropy import CrossEntropy, at_positions
from finetune_trainer.tasks.preference_rows import prompt_in
from finetune_trainer.tasks.text_task import TextTask, require_end

ROW = "row"
"""The column of a prompt's row, as JSON bytes: what rewards look at."""
DEFAULT_CLIP_RANGE = 0.2


@dataclass(frozen=True)
class Answers:
    """What a model says of written tokens, (tokens,) each."""

    log_probabilities: Tensor
    values: Tensor | None
    """What the value head expects before each, where there is one."""
    entropies: Tensor | None = None


class ReinforcementLearning(CrossEntropy, TextTask):
    """Column `prompt`, a text or chat turns, and the columns that rewards read."""

    name = "ReinforcementLearning"
    model_class = AutoModelForCausalLM
    model_types = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    heads = ()
    peft_type = TaskType.CAUSAL_LM

    def __init__(self, columns: Columns, settings: Reinforcement) -> None:
        self._prompt = columns.prompt
        self.settings = settings
        self._read = columns_read(settings)
        self.reward_models: RewardModels = {}
        """What is to be loaded."""
        self._rewards: Rewards | None = None
        self.ends = Ends([], 0)

    def load_rewards(self) -> Rewards:
        """Once, before anything is evaluated. Raises ConfigurationError when a reward model cannot be loaded."""
        self._rewards = Rewards(self.settings, self.reward_models)
        return self._rewards

    def check_tokenizer(self, tokenizer: Any) -> None:
        require_end(tokenizer)

    def configure(self, config: Any, processor: Any, labels: list[str]) -> None:
        """Learns from the tokenizer what ends a completion."""
        super().configure(config, processor, labels)
        self.ends = Ends(end_tokens(processor), processor.pad_token_id)

    def read(self, row: Row) -> Example:
        prompt = prompt_in(row, self._prompt)
        if prompt is None:
            there = ", ".join(row.values) or "none"
            raise DataError(f"{row.where}: no column 'prompt'; the columns are: {there}. Set dataset.columns.prompt")
        if isinstance(prompt, list) and prompt[-1]["role"] == "assistant":
            raise DataError(f"{row.where}: the prompt ends with a turn of the assistant, who is to speak; remove it")
        columns = {name: text_column(row, name, field) for name, field in self._read}
        return Example({"prompt": prompt}, row.where, target=columns)

    def encode(self, examples: list[Example], processor: Any, labels: list[str]) -> list[Features]:
        features = []
        for example in examples:
            with template_refusals(example.where):
                features.append(self._features(prompt_tokens(processor, example.content["prompt"]), example))
        return features

    def encoding_settings(self) -> list[Any]:
        return [[name for name, _ in self._read], self.settings.max_new_tokens]

    def _features(self, ids: list[int], example: Example) -> Features:
        row = orjson.dumps({"prompt": example.content["prompt"], "columns": example.target})
        longest = len(ids) + self.settings.max_new_tokens
        return Features({"input_ids": ids, ROW: row}, len(ids), int(bool(ids)), longest)

    def truncate(
        self, example: Example, features: Features, processor: Any, labels: list[str], max_length: int
    ) -> Features:
        """Keeps the end of the prompt, which the completion follows."""
        room = max(0, max_length - self.settings.max_new_tokens)
        ids = list(features.columns["input_ids"])
        return self._features(ids[len(ids) - room :], example)

    def collator(self, processor: Any) -> Collate:
        def collate(encoded: Encoded, rows: Sequence[RowOfExamples]) -> Batch:
            prompts = [encoded["input_ids"][row[0]] for row in rows]
            inputs = left_padded(prompts, processor.pad_token_id)
            last = inputs["input_ids"].shape[1]
            ends = torch.arange(1, len(prompts) + 1) * last - 1
            return Batch(inputs, ends, torch.zeros(len(prompts), dtype=torch.int64), {"use_cache": False})

        return collate

    def log_probabilities(self, model: Any, batch: Batch) -> Tensor:
        """Of every token that was written, (tokens,), under the distribution that it was drawn from."""
        return token_log_probabilities(self._logits(model, batch), batch)

    def answers(self, model: Any, batch: Batch, with_entropies: bool = False) -> Answers:
        """The same, and what else the loss needs, by one call of the model."""
        nothing: AbstractContextManager[list[Tensor]] = nullcontext([])
        with last_hidden(model) if self.settings.has_value_head else nothing as heard:
            logits = self._logits(model, batch)
        likely = token_log_probabilities(logits, batch)
        values = value_head(model)(at_positions(heard[0], batch)) if heard else None
        return Answers(likely, values, entropies(logits) if with_entropies else None)

    def _logits(self, model: Any, batch: Batch) -> Tensor:
        return self.outputs(model, batch).float() / self.settings.temperature

    def loss_sum(self, model: Any, batch: Batch, label_smoothing: float) -> Tensor:
        settings, ppo = self.settings, self.settings.ppo or Ppo()
        answers = self.answers(model, batch, settings.has_value_head and ppo.entropy_weight > 0)
        # GRPO alone pays for moving away from the reference in the loss; the others in the reward.
        price = settings.beta if settings.divergence_in_loss else 0.0
        clip_range = settings.clip_range or DEFAULT_CLIP_RANGE
        losses = policy_losses(answers.log_probabilities, batch, price, clip_range)
        if answers.values is not None:
            value_range = ppo.value_clip_range or DEFAULT_CLIP_RANGE
            losses = losses + ppo.value_weight * value_losses(answers.values, batch, value_range)
        if answers.entropies is not None:
            losses = losses - ppo.entropy_weight * answers.entropies
        return losses.sum()

    def predictions(self, model: Any, batch: Batch) -> Tensor:
        """What the model writes, the likeliest token each time."""
        inputs = {name: batch.inputs[name] for name in ("input_ids", "attention_mask")}
        return greedy(model, inputs, self.settings.max_new_tokens, self.ends)

    def scores(self, labels: list[str], processor: Any, encoded: Encoded) -> RewardScores:
        assert self._rewards is not None, "load_rewards comes first"
        return RewardScores(self._rewards, processor, [row_of(encoded, i) for i in range(len(encoded))])


def token_log_probabilities(logits: Tensor, batch: Batch) -> Tensor:
    """Of the batch's targets, (tokens,)."""
    return -functional.cross_entropy(logits, batch.targets, reduction="none")


def row_of(encoded: Encoded, example: int) -> dict[str, Any]:
    """`prompt`, and `columns` that rewards read."""
    row: dict[str, Any] = orjson.loads(encoded[ROW][example].tobytes())
    return row
