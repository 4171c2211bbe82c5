"""Waking a main thread that waits, from a signal handler or from another thread."""

import contextlib
import os
import select


class Doorbell:
    """A pipe to oneself. `threading.Event` will not do: a handler that interrupts its `wait` may deadlock in `set`."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def ring(self) -> None:
        """End the current or the next wait; safe in a signal handler."""
        with contextlib.suppress(BlockingIOError):  # full: it rings already
            os.write(self._write, b"!")

    def wait(self, seconds: float) -> bool:
        """Wait for a ring; False when none came in time."""
        ready, _, _ = select.select([self._read], [], [], max(0.0, seconds))
        if ready:
            os.read(self._read, 4096)
        return bool(ready)
