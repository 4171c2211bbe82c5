"""Kahneman-Tversky optimisation (KTO, Ethayarajh et al. 2024, arXiv:2402.01306)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from finetune_api.dataset import Columns
from finetune_api.preference import Preference
from finetune_trainer.data.batches import Batch, Collate
from finetune_trainer.data.encoded import Encoded, Features, Ints
from finetune_trainer.data.examples import Example
from finetune_trainer.data.reading import Row
from finetune_trainer.data.rows import RowOfExamples
from finetune_trainer.metrics.judgements import JudgedScores
from finetune_trainer.tasks.pairs import Prompted, completions_batch, encoded_completions
from finetune_trainer.tasks.preference_rows import JudgedReader
from finetune_trainer.tasks.preference_task import PreferenceTask, with_reference
from finetune_trainer.tasks.task import STEP

GOOD = "good"
"""The column, and the extra of a batch, of what completions are good."""
PROMPT = "prompt_tokens"


class UnpairedPreferences(PreferenceTask):
    """Columns `prompt`, `completion` and `label`."""

    def __init__(self, columns: Columns, preference: Preference) -> None:
        self._reader = JudgedReader(columns)
        self._preference = preference

    def read(self, row: Row) -> Example:
        return self._reader.read(row)

    def encode(self, examples: list[Example], processor: Any, labels: list[str]) -> list[Features]:
        encoded = (encoded_completions(example, processor, ("completion",))["completion"] for example in examples)
        return [_features(*one, example.label == "good") for one, example in zip(encoded, examples, strict=True)]

    def truncate(
        self, example: Example, features: Features, processor: Any, labels: list[str], max_length: int
    ) -> Features:
        """Keeps the start; a completion that loses its end no longer teaches to stop."""
        ids = list(features.columns["input_ids"])[:max_length]
        return _features(ids, int(features.columns[PROMPT][0]), example.label == "good")

    def collator(self, processor: Any) -> Collate:
        known: dict[int, tuple[Encoded, Ints]] = {}

        def collate(encoded: Encoded, rows: Sequence[RowOfExamples]) -> Batch:
            chosen = [row[0] for row in rows]
            if id(encoded) not in known:
                known[id(encoded)] = encoded, _with_other_prompts(encoded)
            _, next_ones = known[id(encoded)]
            mismatches = [_mismatch(encoded, i, int(next_ones[i])) for i in chosen]
            others = completions_batch(mismatches, processor.pad_token_id)
            own = completions_batch([_text(encoded, i) for i in chosen], processor.pad_token_id)
            own.extras[GOOD] = torch.tensor([bool(encoded[GOOD][i][0]) for i in chosen])
            beside = with_reference(others, encoded, chosen, places=[1])
            return replace(with_reference(own, encoded, chosen, places=[0]), beside=beside)

        return collate

    def loss_sum(self, model: Any, batch: Batch, label_smoothing: float) -> Tensor:
        total, count = batch.extras[STEP]
        moved = (total / count.clamp(min=1)).clamp(min=0).float()
        return kto_losses(
            self.log_ratios(model, replace(batch, beside=None)), moved, batch.extras[GOOD], self._preference
        ).sum()

    def step_sums(self, model: Any, batch: Batch) -> Tensor:
        """(2,): log-ratios of completions of other prompts, and their number."""
        assert batch.beside is not None
        others = self.log_ratios(model, batch.beside).double()
        return torch.stack([others.sum(), others.new_tensor(len(others))])

    def log_probabilities(self, model: Any, batch: Batch) -> Tensor:
        """Of the completions, then of those that belong to other prompts: (2 × examples,) by two calls of the model.

        What belongs to others has nothing beside it.
        """
        own = super().log_probabilities(model, batch)
        return torch.cat([own, super().log_probabilities(model, batch.beside)]) if batch.beside else own

    def predictions(self, model: Any, batch: Batch) -> Tensor:
        """Log-ratios of the completions, then of those that belong to other prompts."""
        assert batch.beside is not None
        return torch.cat([self.log_ratios(model, part) for part in (replace(batch, beside=None), batch.beside)])

    def scores(self, labels: list[str], processor: Any, encoded: Encoded) -> JudgedScores:
        return JudgedScores(self._preference, encoded)


def kto_losses(own: Tensor, moved: Tensor, good: Tensor, preference: Preference) -> Tensor:
    """Of (examples,) log-ratios, one loss an example (equation 8 of the paper).

    `moved`, the mean log-ratio of completions of other prompts, at least 0, tells how far the model has moved as a
    whole: what is good must get more likely than that. Nothing is learnt through it.
    """
    ahead = torch.where(good, own - moved, moved - own)
    weight = torch.where(good, preference.desirable_weight or 1.0, preference.undesirable_weight or 1.0)
    return weight * (1 - torch.sigmoid(preference.beta * ahead))


def _features(ids: list[int], prompt: int, good: bool) -> Features:
    return Features({"input_ids": ids, PROMPT: [prompt], GOOD: [good]}, len(ids), int(len(ids) > prompt))


def _text(encoded: Encoded, example: int) -> Prompted:
    return encoded["input_ids"][example], int(encoded[PROMPT][example][0])


def _mismatch(encoded: Encoded, example: int, other: int) -> Prompted:
    """The prompt with the completion of the other, as long as the longest text there is."""
    own, start = _text(encoded, example)
    ids, other_start = _text(encoded, other)
    longest = max(int(encoded.lengths.max()), start + 1)
    return np.concatenate([own[:start], ids[other_start:]])[:longest], start


def _with_other_prompts(encoded: Encoded) -> Ints:
    """Of each example the next one that has another prompt, (examples,); the very next where there is one prompt."""
    places = np.arange(len(encoded))
    following = (places + 1) % len(encoded)
    pairs = enumerate(following.tolist())
    changes = [not np.array_equal(_prompt(encoded, one), _prompt(encoded, after)) for one, after in pairs]
    last_of_runs = np.flatnonzero(changes)
    if not len(last_of_runs):
        return following
    return following[last_of_runs[np.searchsorted(last_of_runs, places) % len(last_of_runs)]]


def _prompt(encoded: Encoded, example: int) -> np.ndarray:
    ids, length = _text(encoded, example)
    return ids[:length]
