"""Everything that a pod's processes write to standard output and error, whoever writes it, without secrets.

Our own log is masked where it is written. What libraries print, what C code writes, what a worker says as it crashes
and what user code prints of its environment goes straight to the descriptors: they become pipes of the launcher, which
passes on line by line what it has masked. The kubelet then finds no secret in the log either, of which it puts the end
into the pod's status where there is no other last word.
"""

import contextlib
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator

from finetune_api.masking import MASK, PEM_BEGIN, PEM_END
from finetune_trainer.redaction import redact

CHUNK = 64 * 1024
LONGEST_LINE = 256 * 1024
"""What is longer is passed on in pieces, cut where no secret is."""
LONGEST_SECRET = 8 * 1024
"""Of which a piece may hold the beginning."""
LONGEST_KEY = 200
"""Lines after the beginning of a private key that are looked at for more of it."""
KEY_LINE = re.compile(r"[A-Za-z0-9+/=]{24}|^[A-Za-z0-9+/=\s]*$|^\s*(Proc-Type|DEK-Info):")
"""Whatever else comes meanwhile is passed on: another process writes, or the key was only spoken of."""
DRAIN_SECONDS = 2.0
"""For the last lines of processes that outlive the launcher's work."""
LINE_ENDS = (b"\n", b"\r")


class LineMasker:
    """Bytes in, masked lines out. A private key spans lines: it is recognised by its first one."""

    def __init__(self, mask: Callable[[str], str] = redact) -> None:
        self._mask = mask
        self._rest = b""
        self._within_key = 0

    def feed(self, chunk: bytes) -> bytes:
        """What of it, and of what came before, is complete."""
        text = self._rest + chunk
        end = max(text.rfind(mark) for mark in LINE_ENDS) + 1
        if not end and len(text) > LONGEST_LINE:
            end = self._cut(text)
        complete, self._rest = text[:end], text[end:]
        return b"".join(self._line(line) for line in complete.splitlines(keepends=True))

    def end(self) -> bytes:
        """What is left without an end of line."""
        rest, self._rest = self._rest, b""
        return self._line(rest) if rest else b""

    def _cut(self, text: bytes) -> int:
        """Where a line that does not end is cut: at white space, or else where both parts are masked as the whole is.

        What follows may end a secret that has begun in the last bytes.
        """
        last = len(text) - LONGEST_SECRET
        masked = self._masked(_decoded(text))
        space = text.rfind(b" ", LONGEST_LINE // 2, last) + 1
        for end in (space, *range(last, last - 4 * LONGEST_SECRET, -LONGEST_SECRET)):
            if end and self._masked(_decoded(text[:end])) + self._masked(_decoded(text[end:])) == masked:
                return end
        return last

    def _line(self, line: bytes) -> bytes:
        text = _decoded(line)
        if self._within_key:
            ended = PEM_END.search(text)
            self._within_key = 0 if ended else self._within_key - 1
            if ended or KEY_LINE.search(text):
                return b""
        if (begin := PEM_BEGIN.search(text)) and not PEM_END.search(text, begin.end()):
            self._within_key = LONGEST_KEY
            return self._masked(text[: begin.start()]) + MASK.encode() + b"\n"
        return self._masked(text)

    def _masked(self, text: str) -> bytes:
        return self._mask(text).encode("utf-8", "surrogateescape")


def _decoded(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


@contextlib.contextmanager
def masked_output() -> Iterator[None]:
    """Of this process and its children, until the block ends. Then all that was written has been passed on."""
    streams = [_Stream(stream.fileno()) for stream in (sys.stdout, sys.stderr)]
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for stream in streams:
            stream.restore()
        for stream in streams:
            stream.drain()


class _Stream:
    """One descriptor that leads into a pipe, and the thread that reads it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._original = os.dup(descriptor)
        self._source, sink = os.pipe()
        os.dup2(sink, descriptor)
        os.close(sink)
        self._thread = threading.Thread(target=self._pass_on, name=f"masked-output-{descriptor}", daemon=True)
        self._thread.start()

    def restore(self) -> None:
        """What this process writes goes where it went before; its children may still write into the pipe."""
        os.dup2(self._original, self._descriptor)

    def drain(self) -> None:
        """Waits until every writer has ended, for a while."""
        self._thread.join(DRAIN_SECONDS)

    def _pass_on(self) -> None:
        masker = LineMasker()
        while chunk := os.read(self._source, CHUNK):
            try:
                self._write(masker.feed(chunk))
            except Exception as error:  # whoever writes would wait for ever if nobody read on
                self._write(f"[{len(chunk)} bytes of output are not shown: {type(error).__name__}]\n".encode())
        self._write(masker.end())

    def _write(self, text: bytes) -> None:
        """A log that takes nothing any more must not stop those who write."""
        with contextlib.suppress(OSError):
            while text:
                text = text[os.write(self._original, text) :]
