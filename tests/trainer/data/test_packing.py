"""Packing loses nothing and fills its rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_trainer.data.packing import pack


@given(st.lists(st.integers(1, 64), max_size=200))
def test_every_example_is_in_exactly_one_row_that_holds_it(lengths: list[int]) -> None:
    rows = pack(np.asarray(lengths, dtype=np.int64), 64)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in row) <= 64 for row in rows)


def test_rows_are_nearly_full() -> None:
    lengths = np.clip(np.random.default_rng(0).lognormal(5, 1, 2000).astype(np.int64), 1, 2048)
    rows = pack(lengths, 2048)
    assert lengths.sum() / (len(rows) * 2048) > 0.98


def test_an_example_longer_than_a_row_is_refused_not_cut() -> None:
    with pytest.raises(ValueError, match="65 tokens does not fit a row of 64"):
        pack(np.asarray([3, 65]), 64)


def test_a_row_takes_the_memory_of_a_few_numbers() -> None:
    rows = pack(np.arange(1, 1001), 1000)
    assert (rows.examples.nbytes, rows.offsets.nbytes) == (8 * 1000, 8 * (len(rows) + 1))
    assert rows.sums(np.arange(1, 1001)).tolist() == [sum(int(i) + 1 for i in row) for row in rows]
    assert len(pack(np.zeros(0, np.int64), 8)) == 0
