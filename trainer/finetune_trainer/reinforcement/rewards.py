"""What completions are worth."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from finetune_api.reinforcement import ExactMatch, LengthReward, PatternReward, Reinforcement, Reward
from finetune_serving.artifact import open_artifact
from finetune_serving.conversation import Turn, end_tokens
from finetune_serving.loading import load
from finetune_serving.scoring import CompletionScorer
from finetune_serving.settings import ModelSource
from finetune_serving.startup import StartupError
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.models.tokenizer import fix_date
from finetune_trainer.reinforcement.reward_models import RewardModels, source_field
from finetune_trainer.reinforcement.writing import until_end

SCORED_AT_ONCE = 32


@dataclass(frozen=True)
class Completion:
    """What the model wrote for a prompt."""

    prompt: str | list[Turn]
    text: str
    """Without the end token,"""
    tokens: int
    """which counts here."""
    columns: dict[str, str]
    """Of the prompt's row, those that rewards read."""


class RewardFunction(Protocol):
    """One value a completion; the same for the same completions."""

    def __call__(self, completions: Sequence[Completion]) -> list[float]: ...


class Rewards:
    """The rewards of a job, summed."""

    def __init__(self, reinforcement: Reinforcement, models: RewardModels) -> None:
        """Raises ConfigurationError when a reward model cannot be loaded."""
        self._weighted = [
            (one.weight, _function(one, place, models)) for place, one in enumerate(reinforcement.rewards)
        ]

    def of(self, completions: Sequence[Completion]) -> list[float]:
        """The weighted sum for each completion."""
        each = [[weight * value for value in function(completions)] for weight, function in self._weighted]
        return [sum(values) for values in zip(*each, strict=True)]


def _function(reward: Reward, place: int, models: RewardModels) -> RewardFunction:
    if reward.exact_match is not None:
        return _Matches(reward.exact_match)
    if reward.pattern is not None:
        return _Found(reward.pattern)
    if reward.length is not None:
        return _Length(reward.length)
    assert reward.model is not None
    return _Scored(models[reward.model.source], source_field(place))


class _Matches:
    def __init__(self, match: ExactMatch) -> None:
        self._column = match.column
        self._extract = re.compile(match.extract) if match.extract else None

    def __call__(self, completions: Sequence[Completion]) -> list[float]:
        return [float(self._answer(one.text) == one.columns[self._column].strip()) for one in completions]

    def _answer(self, text: str) -> str | None:
        if self._extract is None:
            return text.strip()
        found = list(self._extract.finditer(text))
        return str(found[-1].group(1 if self._extract.groups else 0) or "").strip() if found else None


class _Found:
    def __init__(self, pattern: PatternReward) -> None:
        self._expression = re.compile(pattern.expression)

    def __call__(self, completions: Sequence[Completion]) -> list[float]:
        return [float(self._expression.search(one.text) is not None) for one in completions]


class _Length:
    def __init__(self, length: LengthReward) -> None:
        self._tokens = length.tokens

    def __call__(self, completions: Sequence[Completion]) -> list[float]:
        return [max(0.0, 1 - abs(one.tokens - self._tokens) / self._tokens) for one in completions]


class _Scored:
    """By a reward model, loaded and asked as the server does it."""

    def __init__(self, source: ModelSource, field: str) -> None:
        try:
            artifact = open_artifact(source)
            if artifact.description.task != "RewardModeling":
                raise ConfigurationError(
                    f"{field}: the artifact was trained for {artifact.description.task}; give one of RewardModeling"
                )
            loaded = load(source, artifact)
            fix_date(loaded.processor)
            self._scorer = CompletionScorer(loaded)
        except StartupError as error:
            raise ConfigurationError(f"{field}: {error}") from error
        self._field = field

    def __call__(self, completions: Sequence[Completion]) -> list[float]:
        try:
            encodings = [self._scorer.start_of(one.prompt, one.text) for one in completions]
        except ValueError as error:
            raise ConfigurationError(f"{self._field}: {error}") from error
        scores: list[float] = []
        for start in range(0, len(encodings), SCORED_AT_ONCE):
            scores += self._scorer.predict(encodings[start : start + SCORED_AT_ONCE])
        return scores


def columns_read(reinforcement: Reinforcement) -> list[tuple[str, str]]:
    """Columns that rewards need, with the fields that name them."""
    return [
        (one.exact_match.column, f"training.reinforcement.rewards[{place}].exactMatch.column")
        for place, one in enumerate(reinforcement.rewards)
        if one.exact_match is not None
    ]


def completions_of(rows: Sequence[dict[str, Any]], tokens: Tensor, tokenizer: Any) -> list[Completion]:
    """Written tokens, (completions, longest), with the rows of their prompts."""
    written = until_end(tokens, end_tokens(tokenizer))
    texts = tokenizer.batch_decode(written, skip_special_tokens=True)
    return [
        Completion(row["prompt"], text, len(ids), row["columns"])
        for row, text, ids in zip(rows, texts, written, strict=True)
    ]
