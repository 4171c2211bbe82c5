"""Joins examples into full rows: best fit decreasing, whole examples only, nothing cut."""

from bisect import bisect_left, insort

import numpy as np


def pack(lengths: np.ndarray, row_length: int) -> list[list[int]]:
    """Rows of example indices whose lengths add up to at most `row_length`.

    Best fit decreasing: the longest example first, each into the fullest row that still has room. Every example
    is in exactly one row; one that is longer than a row is an error of the caller.
    """
    if len(lengths) and int(lengths.max()) > row_length:
        raise ValueError(f"an example of {int(lengths.max())} tokens does not fit a row of {row_length}")
    rows: list[list[int]] = []
    free: list[tuple[int, int]] = []  # (room left, row), sorted
    for index in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[index])
        at = bisect_left(free, (length, -1))
        room, row = free.pop(at) if at < len(free) else (row_length, len(rows))
        if row == len(rows):
            rows.append([])
        rows[row].append(index)
        if room > length:
            insort(free, (room - length, row))
    return rows
