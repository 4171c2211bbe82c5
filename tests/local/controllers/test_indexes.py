from hypothesis import given
from hypothesis import strategies as st

from finetune_local.controllers.indexes import format_indexes, parse_indexes


def test_short_runs_are_listed_and_long_ones_abbreviated() -> None:
    assert format_indexes([7, 1, 3, 4, 5, 8]) == "1,3-5,7,8"
    assert format_indexes([]) == ""


@given(st.sets(st.integers(0, 60)))
def test_what_is_written_is_read(indexes: set[int]) -> None:
    assert parse_indexes(format_indexes(indexes)) == indexes
