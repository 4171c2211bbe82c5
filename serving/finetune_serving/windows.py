"""Overlapping windows over a text that is longer than a model takes. Trainer and server share them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

LONGEST_ANSWER = 30
"""In tokens, as in BERT's own script. Windows overlap by as much, so that one of them has all of it."""

AT_ONCE = 32
"""Windows in one forward pass of a server: a long text must not fill its memory."""


@dataclass(frozen=True)
class Window:
    """Tokens `start` to `end` (exclusive) of a text; `first` to `last` (exclusive) are those that are its own.

    Every token is some window's own, that in which it has more of its neighbours.
    """

    start: int
    end: int
    first: int
    last: int


def windows(count: int, room: int) -> list[Window]:
    """Windows of at most `room` tokens over `count` of them, a third of each shared with the next.

    Raises ValueError when there is no room.
    """
    if room < 1:
        raise ValueError(f"no room for a window: {room} tokens")
    step = room - max(room // 3, min(LONGEST_ANSWER, room // 2))
    starts = [*range(0, max(1, count - room), step)]
    if count > room:
        starts.append(count - room)  # as long as the others: the last tokens have neighbours too
    ends = [min(start + room, count) for start in starts]
    cuts = [0, *((start + end) // 2 for start, end in zip(starts[1:], ends, strict=False)), count]
    return [Window(start, end, *own) for start, end, own in zip(starts, ends, pairwise(cuts), strict=True)]


@dataclass(frozen=True)
class TextRange:
    """Where in a sequence of tokens the text lies that windows are cut from; what stands around it is in each."""

    start: int
    end: int

    @classmethod
    def of(cls, sequence_ids: Sequence[int | None], part: int) -> "TextRange":
        """`sequence_ids` as tokenizers give them: None for tokens that are no text."""
        places = [place for place, sequence in enumerate(sequence_ids) if sequence == part]
        return cls(places[0], places[-1] + 1) if places else cls(0, 0)

    def windows(self, length: int, max_length: int) -> list[Window]:
        """Over a sequence of `length` tokens; places are in that sequence. Raises ValueError when nothing has room."""
        around = length - (self.end - self.start)
        found = windows(self.end - self.start, max_length - around)
        places = ((w.start, w.end, w.first, w.last) for w in found)
        return [Window(*(self.start + place for place in each)) for each in places]

    def shown(self, values: Sequence[Any], window: Window) -> list[Any]:
        """Of one value a token: those that the window has."""
        return [*values[: self.start], *values[window.start : window.end], *values[self.end :]]

    def tokens(self, encoding: Mapping[str, list[int]], window: Window) -> dict[str, list[int]]:
        """The same of each input of a model."""
        return {name: self.shown(values, window) for name, values in encoding.items()}


def null_place(ids: Sequence[int], cls_token_id: int | None) -> int:
    """Where a model says that a window has no answer: at the token for the whole (Devlin et al. 2019, section 4.3)."""
    return list(ids).index(cls_token_id) if cls_token_id is not None and cls_token_id in ids else 0
