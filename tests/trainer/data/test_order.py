"""The data order is a function of seed, epoch and step."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from finetune_trainer.data.order import DataOrder, micro_batches

LENGTHS = np.random.default_rng(0).integers(1, 100, 1003)


def test_an_epoch_has_every_example_once() -> None:
    order = DataOrder(LENGTHS, 16, seed=1)
    batches = order.batches(0)
    assert len(batches) == 63
    assert sorted(np.concatenate(batches).tolist()) == list(range(1003))


def test_seed_and_epoch_decide_the_order() -> None:
    def first(seed: int, epoch: int) -> list[int]:
        return np.concatenate(DataOrder(LENGTHS, 16, seed).batches(epoch)).tolist()

    assert first(1, 2) == first(1, 2)
    assert first(1, 2) != first(1, 3)
    assert first(1, 2) != first(2, 2)


def test_lengths_in_a_batch_are_alike() -> None:
    def padding(batches: list[np.ndarray]) -> float:
        return 1 - LENGTHS.sum() / sum(LENGTHS[b].max() * len(b) for b in batches)

    mixed = np.random.default_rng(1).permutation(1003)
    assert padding(np.array_split(mixed, 63)) > 0.4
    assert padding(DataOrder(LENGTHS, 16, 1).batches(0)) < 0.08


@given(st.integers(1, 70), st.integers(1, 4), st.integers(1, 4))
def test_ranks_share_a_batch_without_gaps_or_overlap(size: int, world: int, accumulation: int) -> None:
    batch = np.arange(size)
    shares = [micro_batches(batch, rank, world, accumulation) for rank in range(world)]
    assert all(len(share) == accumulation for share in shares)
    assert sorted(np.concatenate([piece for share in shares for piece in share]).tolist()) == batch.tolist()
