"""From token ids, one at a time, to text that never has to be taken back."""

from collections.abc import Callable, Sequence

REPLACEMENT = "\ufffd"
"""What a tokenizer writes for bytes that are no character yet."""


class IncrementalText:
    """Decodes tokens as they come; holds back half characters and what may be the beginning of a stop string."""

    def __init__(self, decode: Callable[[Sequence[int]], str], stop: Sequence[str] = ()) -> None:
        self._decode = decode
        self._stop = tuple(stop)
        self._tokens: list[int] = []
        self._prefix = 0
        self._read = 0
        self._held = ""
        self.stopped = False
        """A stop string was reached; everything after it is dropped."""

    def push(self, token: int) -> str:
        """The text that is certain now, possibly none."""
        if self.stopped:
            return ""
        self._tokens.append(token)
        before = self._decode(self._tokens[self._prefix : self._read])
        after = self._decode(self._tokens[self._prefix :])
        if len(after) <= len(before) or after.endswith(REPLACEMENT):
            return ""
        # The last piece is decoded again with the next: tokenizers write a token differently where a text begins.
        self._prefix, self._read = self._read, len(self._tokens)
        return self._release(after[len(before) :])

    def finish(self) -> str:
        """What was held back and turned out to be no stop string."""
        if self.stopped:
            return ""
        before = self._decode(self._tokens[self._prefix : self._read])
        rest = self._decode(self._tokens[self._prefix :])[len(before) :]
        text = self._release(rest) + self._held
        self._held = ""
        return text

    def _release(self, new: str) -> str:
        text = self._held + new
        found = [index for stop in self._stop if (index := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        keep = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` with which `stop` begins."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if stop.startswith(text[-n:])), 0)
