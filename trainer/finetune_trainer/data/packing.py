"""Joins examples into full rows: best fit decreasing, whole examples only, nothing cut."""

from array import array
from bisect import bisect_left, insort
from collections.abc import Iterator

import numpy as np

from finetune_trainer.data.encoded import Ints
from finetune_trainer.data.rows import Rows

AT_ONCE = 1 << 16
"""Lengths that are Python's own numbers at a time."""


def pack(lengths: Ints, row_length: int) -> Rows:
    """Rows of examples whose lengths add up to at most `row_length`.

    Best fit decreasing: the longest example first, each into the fullest row that still has room. Every example
    is in exactly one row; one that is longer than a row is an error of the caller.
    """
    if len(lengths) and int(lengths.max()) > row_length:
        raise ValueError(f"an example of {int(lengths.max())} tokens does not fit a row of {row_length}")
    order = np.argsort(-lengths, kind="stable")
    chosen, count = array("q"), 0
    free: list[tuple[int, int]] = []  # (room left, row), sorted
    for length in _numbers(lengths[order]):
        at = bisect_left(free, (length, -1))
        room, row = free.pop(at) if at < len(free) else (row_length, count)
        count = max(count, row + 1)
        chosen.append(row)
        if room > length:
            insort(free, (room - length, row))
    rows = np.frombuffer(chosen, np.int64) if chosen else np.zeros(0, np.int64)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=count))]).astype(np.int64)
    return Rows(order[np.argsort(rows, kind="stable")], offsets)


def _numbers(lengths: Ints) -> Iterator[int]:
    for start in range(0, len(lengths), AT_ONCE):
        yield from lengths[start : start + AT_ONCE].tolist()
