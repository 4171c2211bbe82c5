"""Windows over long texts: nothing is left out, and every token is tagged in one of them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from finetune_serving.answer_spans import likeliest_spans
from finetune_serving.windows import LONGEST_ANSWER, TextRange, null_place, windows


@given(st.integers(0, 700), st.integers(1, 200))
def test_each_token_is_one_windows_own_and_each_window_has_room(count: int, room: int) -> None:
    found = windows(count, room)
    assert [token for w in found for token in range(w.first, w.last)] == list(range(count))
    assert all(w.end - w.start <= room and w.start <= w.first <= w.last <= w.end for w in found)
    assert (len(found) == 1) == (count <= room)


@given(st.integers(60, 700), st.integers(60, 200), st.integers(0, 670))
def test_one_of_them_has_the_whole_of_any_answer(count: int, room: int, start: int) -> None:
    end = start + LONGEST_ANSWER
    assert end > count or any(w.start <= start and end <= w.end for w in windows(count, room))


def test_without_room_there_is_no_window() -> None:
    with pytest.raises(ValueError, match="no room for a window: 0 tokens"):
        windows(5, 0)


def test_what_stands_around_the_text_is_in_every_window() -> None:
    sequence = [None, 0, None, *[1] * 7, None]
    text, values = TextRange.of(sequence, 1), list("<q|abcdefg>")
    shown = ["".join(text.shown(values, window)) for window in text.windows(len(values), 8)]
    assert shown == ["<q|abcd>", "<q|cdef>", "<q|defg>"]


def test_a_window_may_have_no_answer() -> None:
    """What it says of its first token takes from what it says of the others, so windows can be compared."""
    within = torch.tensor([[False, True, True], [False, True, True]])
    logits = torch.tensor([[[9.0, 9.0], [1.0, 0.0], [0.0, 1.0]], [[-9.0, -9.0], [1.0, 0.0], [0.0, 1.0]]])
    candidates = within.clone()
    candidates[:, null_place([2, 5, 6], 2)] = True
    spans, likely = likeliest_spans(logits, within, candidates)
    assert spans.tolist() == [[1, 2], [1, 2]]
    assert likely[0] < -15 < -1 < likely[1]
    assert null_place([5, 6], None) == null_place([5, 6], 2) == 0
