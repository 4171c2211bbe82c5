"""A JSON file that is one list of objects, as Alpaca's and ShareGPT's data are published: read object by object."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import orjson

from finetune_trainer.data.row import Row, Where
from finetune_trainer.errors import DataError

PIECE = 1 << 20
"""Characters that are read at a time."""
LONGEST_WORD = 16
"""A mistake so near to the end of a piece may be a word that goes on behind it."""
BLANK = re.compile(r"\s*")
DECODER = json.JSONDecoder()


def read_json(file: Path, name: str) -> Iterator[Row]:
    """Every object, with the line that it begins in.

    Raises:
        DataError: Names the line of the first mistake.
    """
    with file.open(encoding="utf-8-sig") as stream:
        window = _Window(stream, name)
        if window.sign() != "[":
            raise DataError(
                f"{window.where}: not a list of objects, [{{...}}, ...]; a file of one object a line is Jsonl"
            )
        while (sign := window.sign()) != "]":
            if sign != "{":
                raise DataError(f"{window.where}: {sign or 'the end'!r} where a JSON object like {{...}} belongs")
            value = window.value()
            _check_text(value, window.began)
            yield Row(value, window.began, file.parent)
            if (sign := window.sign()) not in (",", "]"):
                raise DataError(f"{window.where}: {sign or 'the end'!r} after an object, where a comma or ] belongs")
            if sign == "]":
                break
        if more := window.sign():
            raise DataError(
                f"{window.where}: {more!r} after the end of the list; put all objects into one list, or one a line and "
                "name the file .jsonl"
            )


def _check_text(value: Any, where: Where) -> None:
    """As a line of Jsonl would be: half a surrogate pair is no character, and an integer has 64 bits."""
    try:
        orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        raise DataError(f"{where}: not usable as text ({error}); correct the object") from None


class _Window:
    """The part of a file that is in memory, and the place in it that was read to."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream, self._name = stream, name
        self._text, self._place, self._line = "", 0, 1
        self._indent = 0
        """Characters of its first line that are in memory no longer."""
        self.began = self.where

    @property
    def where(self) -> Where:
        return Where(self._name, self._line)

    def sign(self) -> str:
        """The next character that is not blank, which is passed over; nothing at the end."""
        while True:
            blank = BLANK.match(self._text, self._place)
            self._move(blank.end() if blank else self._place)
            if self._place < len(self._text):
                self._move(self._place + 1)
                return self._text[self._place - 1]
            if not self._more():
                return ""

    def value(self) -> Any:
        """The value whose first character was the last sign."""
        self._place -= 1
        self.began = self.where
        while True:
            try:
                value, end = DECODER.raw_decode(self._text, self._place)
            except json.JSONDecodeError as error:
                goes_on = error.msg.startswith("Unterminated") or error.pos + LONGEST_WORD >= len(self._text)
                if goes_on and self._more():
                    continue
                raise self._mistake(error) from None
            self._move(end)
            return value

    def _more(self) -> bool:
        try:
            piece = self._stream.read(PIECE)
        except UnicodeDecodeError as error:
            raise DataError(f"{self.where} or below: not UTF-8 ({error.reason}); save the file as UTF-8") from None
        if not piece:
            return False
        self._indent = self._column(self._place)
        self._text, self._place = self._text[self._place :] + piece, 0
        return True

    def _move(self, end: int) -> None:
        self._line += self._text.count("\n", self._place, end)
        self._place = end

    def _mistake(self, error: json.JSONDecodeError) -> DataError:
        line = self._line + self._text.count("\n", self._place, error.pos)
        cut_off = error.msg.startswith("Unterminated") or error.pos >= len(self._text.rstrip())
        half = "; the file may be half-written" * cut_off
        place = f"at character {self._column(error.pos) + 1}{half}"
        return DataError(f"{Where(self._name, line)}: not valid JSON ({error.msg}, {place})")

    def _column(self, place: int) -> int:
        start = self._text.rfind("\n", 0, place) + 1
        return place - start + (self._indent if not start else 0)
