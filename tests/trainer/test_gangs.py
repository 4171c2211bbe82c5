"""Tests of several ranks end as soon as one of them fails."""

import os

import pytest

from finetune_trainer.ranks import Ranks
from trainer.gangs import RankFailed, gang


def one_of_two(ranks: Ranks, dies: bool) -> None:
    if ranks.rank == 1 and dies:
        os._exit(1)
    if ranks.rank == 1:
        raise ValueError("a reason")
    ranks.gather("from the one that waits")


@pytest.mark.parametrize(("dies", "expected"), [(False, "ValueError: a reason"), (True, "rank 1 died without a word")])
def test_the_first_failure_ends_the_other_rank_too(dies: bool, expected: str) -> None:
    with pytest.raises(RankFailed, match=expected):
        gang(one_of_two, dies)
