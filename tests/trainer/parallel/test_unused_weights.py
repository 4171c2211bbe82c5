"""Weights that no gradient reaches, always or in some step, hold nobody up."""

from typing import Any

import pytest

from finetune_trainer.ranks import Ranks
from trainer.gangs import gang
from trainer.parallel.unused_weights_runs import tensors


def test_ranks_that_use_different_weights_train_as_one_process() -> None:
    alone = tensors(Ranks())
    for answer in gang(tensors):
        assert isinstance(answer, dict), answer
        assert {name: pytest.approx(weight, rel=1e-4) for name, weight in nested(alone)} == dict(nested(answer))


def nested(weights: dict[str, Any]) -> list[tuple[str, Any]]:
    """Rows of a matrix by themselves."""
    return [
        (f"{name}.{place}", row)
        for name, weight in weights.items()
        for place, row in enumerate(weight if isinstance(weight[0], list) else [weight])
    ]
