"""What a model's completions are worth on held-out prompts."""

import math
from typing import Any

import numpy as np
from torch import Tensor

from finetune_trainer.data.batches import Batch
from finetune_trainer.metrics.scores import Evaluation
from finetune_trainer.reinforcement.rewards import Rewards, completions_of

SHOWN = 5
"""So many completions are shown in the report."""
Rewarded = tuple[int, str, float, int]
"""Row, completion, reward, tokens."""


class RewardScores:
    """Keeps the completions."""

    def __init__(self, rewards: Rewards, tokenizer: Any, rows: list[dict[str, Any]]) -> None:
        self._rewards = rewards
        self._tokenizer = tokenizer
        self._rows = rows
        self._written: list[tuple[np.ndarray, Tensor]] = []

    def add(self, predictions: Tensor, batch: Batch, rows: np.ndarray) -> None:
        """`predictions` are the tokens that the model writes."""
        self._written.append((rows, predictions))

    def share(self) -> list[Rewarded]:
        found: list[Rewarded] = []
        for rows, tokens in self._written:
            completions = completions_of([self._rows[row] for row in rows.tolist()], tokens, self._tokenizer)
            worth = self._rewards.of(completions)
            found += [
                (row, one.text, value, one.tokens)
                for row, one, value in zip(rows.tolist(), completions, worth, strict=True)
            ]
        return found

    def result(self, shares: list[Any]) -> Evaluation:
        found = sorted(rewarded for share in shares for rewarded in share)
        count = max(1, len(found))
        metrics = {
            "reward": math.fsum(value for _, _, value, _ in found) / count,
            "completionTokens": sum(tokens for *_, tokens in found) / count,
        }
        shown = [
            {"prompt": self._rows[row]["prompt"], "completion": text, "reward": value}
            for row, text, value, _ in found[:SHOWN]
        ]
        return Evaluation(metrics, {"completions": len(found), "samples": shown})
