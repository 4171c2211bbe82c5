"""Subtasks have their shares of every step; the order is a function of seed and epoch alone."""

from collections import Counter

import numpy as np
import pytest

from finetune_trainer.data.mixture import Mixture, sampling_shares, whole_shares

SIZES = (30, 90, 180)


def mixture(shares: list[float], seed: int = 7, sizes: tuple[int, ...] = SIZES) -> Mixture:
    return Mixture(sizes, shares, np.arange(sum(sizes)) % 13, batch_size=12, seed=seed)


def subtasks(examples: np.ndarray) -> Counter[int]:
    return Counter(np.searchsorted(np.cumsum(SIZES), examples, side="right").tolist())


def test_the_size_decides_unless_told_otherwise() -> None:
    assert sampling_shares(SIZES, None, 1.0) == pytest.approx([0.1, 0.3, 0.6])
    hot = sampling_shares(SIZES, None, 1000.0)
    assert hot == pytest.approx([1 / 3] * 3, abs=1e-3)
    warm = sampling_shares(SIZES, None, 2.0)
    assert warm[1] / warm[0] == pytest.approx(3**0.5)


def test_weights_decide_whatever_the_size() -> None:
    assert sampling_shares(SIZES, [2, 1, 1], 1.0) == [0.5, 0.25, 0.25]


def test_every_subtask_has_at_least_one_example_of_an_epoch() -> None:
    assert whole_shares(10, [0.34, 0.33, 0.33]) == [4, 3, 3]
    assert whole_shares(10, [0.998, 0.001, 0.001]) == [8, 1, 1]


def test_every_batch_has_the_shares_of_the_whole() -> None:
    batches = mixture([0.5, 0.25, 0.25]).batches(0)
    assert [len(batch) for batch in batches] == [12] * 25
    for batch in batches:
        counts = subtasks(batch)
        assert [counts[task] for task in range(3)] == pytest.approx([6, 3, 3], abs=1)


def test_nothing_comes_twice_before_all_came_once() -> None:
    """Over epochs too: a third of the largest subtask comes in each."""
    order = mixture([0.6, 0.2, 0.2])
    seen = np.concatenate([batch for epoch in range(6) for batch in order.batches(epoch)])
    for task, (start, size) in enumerate(zip((0, 30, 120), SIZES, strict=True)):
        own = Counter(seen[(seen >= start) & (seen < start + size)].tolist())
        assert sum(own.values()) == [1080, 360, 360][task]
        assert max(own.values()) - min(own.values()) <= 1
        assert len(own) == size


def test_with_the_shares_of_their_sizes_an_epoch_is_each_example_once() -> None:
    seen = np.concatenate(list(mixture([0.1, 0.3, 0.6]).batches(3)))
    assert sorted(seen.tolist()) == list(range(300))


def test_any_epoch_can_be_had_at_once_and_is_another_than_the_last() -> None:
    order = mixture([0.5, 0.3, 0.2])
    [order.batches(epoch) for epoch in range(4)]
    again = mixture([0.5, 0.3, 0.2]).batches(4)
    assert all((a == b).all() for a, b in zip(order.batches(4), again, strict=True))
    assert (order.batches(5).order != again.order).any()
    assert (mixture([0.5, 0.3, 0.2], seed=8).batches(4).order != again.order).any()


def test_rows_of_one_batch_are_sorted_by_length() -> None:
    """Neighbours in length go to the micro-batches of one pass."""
    order = mixture([0.5, 0.3, 0.2])
    assert all((np.diff(order.lengths[batch]) >= 0).all() for batch in order.batches(0))
