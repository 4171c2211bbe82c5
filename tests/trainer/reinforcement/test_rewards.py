"""What completions are worth, and what a group of them teaches."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from finetune_api.reinforcement import Reinforcement
from finetune_serving.settings import ModelSource
from finetune_trainer.data.batches import Batch
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.reinforcement.advantages import grpo_advantages, rloo_advantages
from finetune_trainer.reinforcement.losses import ADVANTAGES, REFERENCE, WEIGHTS, policy_losses
from finetune_trainer.reinforcement.rewards import Completion, Rewards
from finetune_trainer.reinforcement.writing import until_end


def worth(*rewards: dict[str, Any], text: str, tokens: int = 4, answer: str = "") -> float:
    settings = Reinforcement.model_validate({"rewards": list(rewards)})
    [value] = Rewards(settings, {}).of([Completion("hello", text, tokens, {"answer": answer})])
    return value


def test_an_exact_match_is_of_the_whole_completion_or_of_its_last_match() -> None:
    assert worth({"exactMatch": {}}, text=" three ", answer="three") == 1
    assert worth({"exactMatch": {}}, text="it is three", answer="three") == 0
    boxed = {"exactMatch": {"extract": r"is (\w+)"}}
    assert worth(boxed, text="it is two, no: it is three", answer="three") == 1
    assert worth({"exactMatch": {"extract": r"\w+"}}, text="two three", answer="three") == 1
    assert worth(boxed, text="three", answer="three") == 0


def test_a_pattern_is_found_anywhere_and_a_length_costs_by_its_distance() -> None:
    assert worth({"pattern": {"expression": "th.*s"}}, text="many thanks you") == 1
    assert worth({"pattern": {"expression": "^thanks"}}, text="many thanks") == 0
    assert [worth({"length": {"tokens": 4}}, text="", tokens=n) for n in (2, 4, 5, 12)] == [0.5, 1, 0.75, 0]


def test_rewards_add_up_by_their_weights() -> None:
    rewards = [{"pattern": {"expression": "one"}, "weight": 2.0}, {"length": {"tokens": 4}, "weight": -0.5}]
    assert worth(*rewards, text="one") == 1.5


@pytest.mark.parametrize(
    ("reward", "expected"),
    [
        ({}, "set exactly one of exactMatch, pattern, length, model; got none"),
        ({"length": {"tokens": 3}, "pattern": {"expression": "x"}}, "got pattern, length"),
        ({"pattern": {"expression": "("}}, r"( is no regular expression: missing )"),
    ],
)
def test_a_reward_is_one_thing(reward: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Reinforcement.model_validate({"rewards": [reward]})
    assert expected in str(caught.value)


def test_a_reward_model_must_be_one(tmp_path: Path) -> None:
    source = f"file://{tmp_path}"
    settings = Reinforcement.model_validate({"rewards": [{"model": {"source": source}}]})
    with pytest.raises(ConfigurationError, match=r"training\.reinforcement\.rewards\[0\]\.model\.source: .*not an art"):
        Rewards(settings, {source: ModelSource(source, tmp_path)})


def test_advantages_are_relative_to_the_group() -> None:
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0], [3.0, 3.0, 3.0, 3.0]])
    grpo = grpo_advantages(rewards)
    torch.testing.assert_close(grpo[0], torch.tensor([0.8659, -0.8659, -0.8659, 0.8659]), atol=1e-4, rtol=0)
    assert grpo[1].tolist() == [0, 0, 0, 0], "equal completions teach nothing"
    torch.testing.assert_close(rloo_advantages(rewards)[0], torch.tensor([2 / 3, -2 / 3, -2 / 3, 2 / 3]))


def test_the_loss_has_the_gradient_of_the_policy_and_the_price_of_moving_away() -> None:
    own = torch.tensor([-1.0, -2.0], requires_grad=True)
    extras = {ADVANTAGES: torch.tensor([1.5, -0.5]), WEIGHTS: torch.tensor([0.5, 1.0]), REFERENCE: own.detach() + 0.3}
    batch = Batch({}, torch.zeros(0), torch.zeros(0), extras=extras)
    losses = policy_losses(own, batch, beta=0.0, clip_range=0.2)
    torch.testing.assert_close(losses, torch.tensor([-0.75, 0.5]))
    losses.sum().backward()
    torch.testing.assert_close(own.grad, torch.tensor([-0.75, 0.5]))
    priced = policy_losses(own, batch, beta=2.0, clip_range=0.2) - policy_losses(own, batch, beta=0.0, clip_range=0.2)
    expected = 2 * (torch.exp(torch.tensor(0.3)) - 1.3) * extras[WEIGHTS]
    torch.testing.assert_close(priced, expected)


def test_a_completion_ends_at_its_first_end_token() -> None:
    assert until_end(torch.tensor([[5, 2, 2], [5, 6, 7], [2, 2, 2]]), ends=[2, 9]) == [[5, 2], [5, 6, 7], [2]]
