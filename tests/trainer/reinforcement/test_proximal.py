"""PPO: advantages of tokens, clipped losses, and experience that outlives a killed run."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from finetune_trainer.data.batches import Batch
from finetune_trainer.reinforcement.advantages import generalized_advantages
from finetune_trainer.reinforcement.experience import Experience, experience_in, joined
from finetune_trainer.reinforcement.losses import (
    ADVANTAGES,
    EXPECTED,
    RETURNS,
    WEIGHTS,
    WRITTEN,
    entropies,
    policy_losses,
    value_losses,
)
from trainer.in_process import run
from trainer.tasks.task_cases import CASES
from trainer.tasks.test_every_task import job_of


def by_definition(rewards: list[float], values: list[float], gamma: float, gae_lambda: float) -> list[float]:
    """The sum that the paper defines, term by term, where the trainer goes backwards once."""
    after = [*values[1:], 0.0]
    surprises = [r + gamma * later - now for r, now, later in zip(rewards, values, after, strict=True)]
    return [
        sum((gamma * gae_lambda) ** distance * surprise for distance, surprise in enumerate(surprises[place:]))
        for place in range(len(rewards))
    ]


@pytest.mark.parametrize(("gamma", "gae_lambda"), [(1.0, 0.95), (0.9, 0.5), (0.99, 0.0), (1.0, 1.0)])
def test_advantages_are_those_of_the_paper(gamma: float, gae_lambda: float) -> None:
    rewards, values = [-0.1, 0.0, 0.3, 2.0], [0.5, 0.4, -0.2, 1.0]
    found = generalized_advantages(torch.tensor(rewards), torch.tensor(values), gamma, gae_lambda)
    assert found.tolist() == pytest.approx(by_definition(rewards, values, gamma, gae_lambda))


def test_advantages_of_two_tokens_by_hand() -> None:
    # The second: 1 - 0.25. The first: 0 + 0.5 * 0.25 - 0.5, and 0.5 * 0.5 of the second's.
    found = generalized_advantages(torch.tensor([0.0, 1.0]), torch.tensor([0.5, 0.25]), 0.5, 0.5)
    assert found.tolist() == pytest.approx([-0.375 + 0.25 * 0.75, 0.75])


def test_a_token_is_moved_no_farther_than_the_clip_range() -> None:
    """Up when it was better than expected and is not yet too likely, down likewise; else it has no gradient."""
    ratios, advantages = [1.1, 1.5, 0.5, 0.9, 0.5, 1.5], [1.0, 1.0, 1.0, -1.0, -1.0, -1.0]
    own = torch.tensor(ratios).log().requires_grad_()
    written, weights = torch.zeros(6), torch.ones(6)
    batch = Batch(
        {}, weights, weights, extras={ADVANTAGES: torch.tensor(advantages), WEIGHTS: weights, WRITTEN: written}
    )
    losses = policy_losses(own, batch, beta=0.0, clip_range=0.2)
    assert losses.tolist() == pytest.approx([-1.1, -1.2, -0.5, 0.9, 0.8, 1.5])
    losses.sum().backward()
    assert own.grad is not None
    assert own.grad.tolist() == pytest.approx([-1.1, 0.0, -0.5, 0.9, 0.0, 1.5])


def test_a_value_is_pulled_no_farther_than_its_clip_range() -> None:
    values = torch.tensor([0.1, 0.5, 0.5], requires_grad=True)
    extras = {EXPECTED: torch.zeros(3), RETURNS: torch.tensor([1.0, 1.0, 0.0])}
    losses = value_losses(values, Batch({}, values, values, extras=extras), clip_range=0.2)
    assert losses.tolist() == pytest.approx([0.5 * 0.81, 0.5 * 0.64, 0.5 * 0.25])
    losses.sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == pytest.approx([-0.9, 0.0, 0.5])


def test_entropy_is_that_of_the_distribution() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [100.0, 0.0, 0.0, 0.0]])
    assert entropies(logits).tolist() == pytest.approx([np.log(4), 0.0], abs=1e-6)


def experience(counted: list[bool]) -> Experience:
    """Completions of two tokens each behind prompts of three."""
    texts = [(np.arange(5, dtype=np.int64) + 10 * n, 3) for n in range(len(counted))]
    return Experience(texts, counted, {ADVANTAGES: torch.arange(2.0 * len(counted))})


def test_each_pass_takes_every_completion_once_and_mixes_them_anew() -> None:
    whole = joined([experience([True] * 6), experience([False] * 2), experience([True] * 3)])
    passes = [whole.shares(3, 2, (0, number, 0)) for number in range(2)]
    for steps in passes:
        assert len(steps) == 3
        taken = np.concatenate([share for turns in steps for share in turns])
        assert sorted(taken.tolist()) == [0, 1, 2, 3, 4, 5, 8, 9, 10], "what does not count is not learnt from"
    assert [s.tolist() for s in passes[0][0]] != [s.tolist() for s in passes[1][0]]


def test_experience_survives_a_checkpoint_and_a_share_keeps_its_own_advantages() -> None:
    whole = experience([True, True, False])
    found = experience_in({**whole.tensors(), "rng/torch": torch.zeros(1)})
    assert found is not None
    batch = found.batch([2, 0], pad=0)
    assert batch.targets.tolist() == [23, 24, 3, 4]
    assert batch.extras[ADVANTAGES].tolist() == [4.0, 5.0, 0.0, 1.0]
    assert found.counted == [True, True, False]
    assert found.batch([], pad=0).idle
    assert experience_in({"rng/torch": torch.zeros(1)}) is None


def test_the_value_head_is_in_checkpoints_and_not_in_the_artifact(tmp_path: Path) -> None:
    case = CASES["proximal-policy"]
    model, data = case.model(tmp_path / "model"), case.data(tmp_path / "data")
    run(job_of(case, tmp_path, model, data, maxSteps=5, method={"full": {}}, batchSize=4), tmp_path)
    names = {kind: tensor_names(tmp_path / kind) for kind in ("checkpoints", "output")}
    assert "value_head.linear.weight" in names["checkpoints"]
    assert not [name for name in names["output"] if "value_head" in name]
    assert "model.embed_tokens.weight" in names["output"]


def tensor_names(folder: Path) -> set[str]:
    files = [f for f in folder.rglob("*.safetensors") if f.name in ("trainable.safetensors", "model.safetensors")]
    assert files
    names: set[str] = set()
    for file in files:
        with safe_open(file, framework="pt") as content:
            names |= set(content.keys())
    return names
