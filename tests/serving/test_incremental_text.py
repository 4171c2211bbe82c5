"""Text from tokens, one at a time."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_serving.incremental_text import IncrementalText


def decode_bytes(tokens: Sequence[int]) -> str:
    return bytes(tokens).decode(errors="replace")


def pieces(text: str, *stop: str) -> list[str]:
    incremental = IncrementalText(decode_bytes, stop)
    return [*(incremental.push(token) for token in text.encode()), incremental.finish()]


@given(st.text(alphabet=st.characters(exclude_characters="\ufffd", exclude_categories=["Cs"])))
def test_the_pieces_are_the_text(text: str) -> None:
    assert "".join(pieces(text)) == text


def test_half_a_character_is_never_shown() -> None:
    assert pieces("é€😀") == ["", "é", "", "", "€", "", "", "", "😀", ""]


@given(st.text(alphabet="abc"), st.lists(st.text(alphabet="abc", min_size=1, max_size=4), max_size=3))
def test_ends_before_the_first_stop_string(text: str, stops: list[str]) -> None:
    shown = "".join(pieces(text, *stops))
    assert not any(stop in shown for stop in stops)
    # As characters come one at a time, the stop string that is complete first counts.
    ends = [end for end in range(len(text) + 1) if any(text[:end].endswith(stop) for stop in stops)]
    if not ends:
        assert shown == text
        return
    complete = [stop for stop in stops if text[: ends[0]].endswith(stop)]
    assert shown == text[: ends[0] - max(len(stop) for stop in complete)]


@pytest.mark.parametrize(("text", "expected"), [("say END now", "say "), ("say EN", "say EN")])
def test_the_beginning_of_a_stop_string_is_held_back(text: str, expected: str) -> None:
    found = pieces(text, "END")
    assert "".join(found) == expected
    assert all("E" not in piece for piece in found[:-1])


def test_nothing_comes_after_a_stop_string() -> None:
    incremental = IncrementalText(decode_bytes, ("x",))
    assert "".join(incremental.push(token) for token in b"axbc") == "a"
    assert incremental.stopped
    assert incremental.finish() == ""
