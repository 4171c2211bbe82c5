"""Learns from rewards for its own completions: GRPO and RLOO."""

from pathlib import Path
from typing import Any

import orjson
import torch
from peft import TaskType
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from finetune_api.dataset import Columns
from finetune_api.reinforcement import Reinforcement
from finetune_serving.conversation import prompt_tokens
from finetune_trainer.data.batches import Batch, Collate
from finetune_trainer.data.encoded import Encoded, Features
from finetune_trainer.data.examples import Example, text_column
from finetune_trainer.data.reading import Row
from finetune_trainer.errors import ConfigurationError, DataError
from finetune_trainer.metrics.rewards import RewardScores
from finetune_trainer.reinforcement.rewards import Rewards, columns_read
from finetune_trainer.reinforcement.writing import Ends, greedy, left_padded
from finetune_trainer.tasks.cross_entropy import CrossEntropy
from finetune_trainer.tasks.preference_rows import prompt_in
from finetune_trainer.tasks.text_task import TextTask, require_end

ROW = "row"
"""The column of a prompt's row, as JSON bytes: what rewards look at."""
ADVANTAGES, WEIGHTS, REFERENCE = "advantages", "weights", "reference"
"""Extras of a batch to learn from, one value a token."""


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
        self._rewards: Rewards | None = None
        self.ends = Ends(0, 0)

    def load_rewards(self, scratch: Path, trust_remote_code: bool) -> Rewards:
        """Once, before anything is evaluated. Raises ConfigurationError when a reward model cannot be loaded."""
        self._rewards = Rewards(self.settings, scratch, trust_remote_code)
        return self._rewards

    def check_tokenizer(self, tokenizer: Any) -> None:
        require_end(tokenizer)

    def configure(self, config: Any, processor: Any, labels: list[str]) -> None:
        """Learns from the tokenizer what ends a completion."""
        super().configure(config, processor, labels)
        self.ends = Ends(processor.eos_token_id, processor.pad_token_id)

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
        try:
            return [self._features(prompt_tokens(processor, e.content["prompt"]), e) for e in examples]
        except ValueError as error:
            raise ConfigurationError(f"model.source: {error}") from error

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
        def collate(encoded: Encoded, rows: list[list[int]]) -> Batch:
            prompts = [encoded["input_ids"][row[0]] for row in rows]
            inputs = left_padded(prompts, processor.pad_token_id)
            last = inputs["input_ids"].shape[1]
            ends = torch.arange(1, len(prompts) + 1) * last - 1
            return Batch(inputs, ends, torch.zeros(len(prompts), dtype=torch.int64), {"use_cache": False})

        return collate

    def token_log_probabilities(self, model: Any, batch: Batch) -> Tensor:
        """Of every token that was written, (tokens,), under the distribution that it was drawn from."""
        logits = self.outputs(model, batch).float() / self.settings.temperature
        return -functional.cross_entropy(logits, batch.targets, reduction="none")

    def loss_sum(self, model: Any, batch: Batch, label_smoothing: float) -> Tensor:
        return policy_losses(self.token_log_probabilities(model, batch), batch, self._price).sum()

    @property
    def _price(self) -> float:
        """Of moving away from the reference, where the loss asks for it and not the reward."""
        return self.settings.beta if self.settings.algorithm == "GRPO" else 0.0

    def predictions(self, model: Any, batch: Batch) -> Tensor:
        """What the model writes, the likeliest token each time."""
        inputs = {name: batch.inputs[name] for name in ("input_ids", "attention_mask")}
        return greedy(model, inputs, self.settings.max_new_tokens, self.ends)

    def scores(self, labels: list[str], processor: Any, encoded: Encoded) -> RewardScores:
        assert self._rewards is not None, "load_rewards comes first"
        return RewardScores(self._rewards, processor, [row_of(encoded, i) for i in range(len(encoded))])


def policy_losses(log_probabilities: Tensor, batch: Batch, beta: float) -> Tensor:
    """One value a token: how far it is from what was rewarded, and beta times an estimate of the divergence.

    Each step learns from completions of the model as it is, so the ratio of probabilities is 1 and clipping it would
    do nothing; its gradient is that of the policy. The divergence is estimated as in Schulman 2020 ("k3").
    """
    ratio = torch.exp(log_probabilities - log_probabilities.detach())
    losses = -ratio * batch.extras[ADVANTAGES]
    if beta:
        ahead = batch.extras[REFERENCE] - log_probabilities
        losses = losses + beta * (torch.exp(ahead) - ahead - 1)
    return losses * batch.extras[WEIGHTS]


def row_of(encoded: Encoded, example: int) -> dict[str, Any]:
    """`prompt`, and `columns` that rewards read."""
    row: dict[str, Any] = orjson.loads(encoded[ROW][example].tobytes())
    return row
