"""An end to what may hang before any worker runs, which has heartbeats: a volume or a store that never answers."""

import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from finetune_api.reports import RankStack, TerminationMessage
from finetune_trainer.launch.stacks import FRAMES
from finetune_trainer.redaction import redact


@contextmanager
def time_limit(seconds: float, what: str, end: Callable[[TerminationMessage], int]) -> Iterator[None]:
    """Of the main thread. When it is over, the process ends with the exit code of `end(last words)`.

    From a thread, and without clearing up: what hangs may do so in C, or in a pool that waits for its threads.
    """

    def give_up() -> None:
        calls = redact(_calls(threading.main_thread()))
        words = f"{what} has not ended within {seconds:g} s: {calls}"
        message = TerminationMessage(outcome="Hang", message=words, stacks=[RankStack(rank=0, text=calls)])
        code = 1
        try:
            code = end(message)
        except Exception:  # the place of the last words may hang or be full, too
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(code)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _calls(thread: threading.Thread) -> str:
    """`local.py:31 open < sample.py:54 sample < …`, the innermost call first."""
    frames = traceback.extract_stack(sys._current_frames()[thread.ident or 0])[-FRAMES:]
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in reversed(frames))
