"""Which rank holds the others up."""

import math

import pytest
import torch

from finetune_trainer.loop.stragglers import OwnTime, Stragglers, slowdowns
from finetune_trainer.prometheus import TrainingMetrics

STEP = 1.0


def named(*readings: list[float], step_seconds: float = STEP) -> list[int]:
    stragglers, found = Stragglers(), []
    for own in readings:
        found = stragglers.note(own, step_seconds)
    return [one.rank for one in found]


def test_a_rank_that_is_slow_three_times_in_a_row_is_named() -> None:
    slow = [0.2, 0.2, 0.5, 0.2]
    assert named(slow, slow) == []
    assert named(slow, slow, slow) == [2]
    assert named(slow, slow, [0.2] * 4, slow) == []


def test_of_two_ranks_the_slow_one_is_named_not_both() -> None:
    assert named(*[[0.2, 0.5]] * 3) == [1]


def test_the_slowest_comes_first() -> None:
    assert named(*[[0.2, 0.4, 0.2, 0.9, 0.2, 0.2]] * 3) == [3, 1]


def test_a_difference_that_costs_the_step_nothing_is_none() -> None:
    assert named(*[[0.01, 0.05]] * 3) == []
    assert named(*[[0.01, 0.05]] * 3, step_seconds=0.1) == [1]


@pytest.mark.parametrize("own", [[], [0.5], [0.0, 0.0], [0.3, 0.3, 0.4]])
def test_nobody_is_named_without_a_reason(own: list[float]) -> None:
    assert named(own, own, own) == []


def test_slowdown_is_relative_to_the_others() -> None:
    assert [one.slowdown for one in slowdowns([1.0, 3.0])] == pytest.approx([1 / 3, 3.0])


def test_own_time_is_from_the_beginning_of_a_step_to_the_end_of_its_forward_passes() -> None:
    times = iter([0.0, 0.2, 7.0, 7.4])  # backward, and waiting for the others, are in between
    own = OwnTime(torch.device("cpu"), times.__next__)
    for _ in range(2):
        own.begin()
        own.end()
    assert own.read() == pytest.approx(0.3)
    assert own.read() == 0.0


def test_the_metrics_show_the_named_ranks_and_forget_the_others() -> None:
    metrics = TrainingMetrics()
    name = "finetune_training_rank_slowdown"
    metrics.show_stragglers({3: 2.5})
    assert metrics.registry.get_sample_value(name, {"rank": "3"}) == 2.5
    metrics.show_stragglers({1: math.pi})
    assert metrics.registry.get_sample_value(name, {"rank": "3"}) is None
