"""What a step learns from is a function of its number: a run that goes on seeks it, and skips nothing."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import pytest

from finetune_api.training import Training
from finetune_trainer.data.batches import Batch, classification_batch
from finetune_trainer.data.encoded import LABEL, Encoded, Features, encode
from finetune_trainer.data.rows import Rows
from finetune_trainer.loop.feed import Feed
from finetune_trainer.loop.plan import plan_steps

EXAMPLES, STEPS = 10, 9


@pytest.fixture
def encoded() -> Encoded:
    return encode([Features({"input_ids": [n] * (1 + n % 3), LABEL: [n % 2]}, 1 + n % 3) for n in range(EXAMPLES)])


def feed(encoded: Encoded, drawn: dict[int, list[float]], rank: int = 0, world_size: int = 1, micro: int = 4) -> Feed:
    """One that begins anew, as after a restart; `drawn` is what augmentation draws for each example, in order."""

    def altering(encoded: Encoded, rows: Sequence[Any], draws: Sequence[Any]) -> Batch:
        for row, own in zip(rows, draws, strict=True):
            drawn.setdefault(int(row[0]), []).append(own.random())
        return classification_batch(encoded, [row[0] for row in rows], 0)

    rows = Rows.of_one(np.arange(EXAMPLES))
    plan = plan_steps(Training(batch_size=4, micro_batch_size=micro, max_steps=STEPS), EXAMPLES, world_size)
    return Feed(lambda *_: pytest.fail("unaltered"), encoded, rows, plan, 4, seed=3, rank=rank, altering=altering)


def test_any_step_can_be_had_at_once_also_in_later_epochs(encoded: Encoded) -> None:
    walked, seen = feed(encoded, {}), []
    for step in range(STEPS):
        seen.append(walked.chosen(step).tolist())
        assert feed(encoded, {}).chosen(step).tolist() == seen[step]
    epochs = [[*chain(*seen[start : start + 3])] for start in range(0, STEPS, 3)]
    assert all(sorted(epoch) == list(range(EXAMPLES)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3, "each in an order of its own"


def test_what_augmentation_draws_depends_on_seed_epoch_and_example_alone(encoded: Encoded) -> None:
    whole, in_parts = dict[int, list[float]](), dict[int, list[float]]()
    unbroken = feed(encoded, whole)
    for step in range(STEPS):
        targets = unbroken.at(step).targets
        for rank in range(2):  # each step in processes of its own
            assert feed(encoded, in_parts, rank, 2, micro=1).at(step).targets == targets
    assert [len({*values}) for values in whole.values()] == [3] * EXAMPLES, "something new in each epoch"
    assert {example: {*values} for example, values in in_parts.items()} == {e: {*v} for e, v in whole.items()}
