"""A process of the launcher's: it does not outlive it, and is ended with all that it started."""

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from finetune_trainer.launch.worker import PR_SET_PDEATHSIG

TAIL_BYTES = 2000


class Child:
    """Starts a command in a process group of its own."""

    def __init__(self, command: list[str], environment: Mapping[str, str], log: Path | None = None) -> None:
        """What it prints goes into `log`, or else where the launcher's own lines go."""
        self._log = log
        output = log.open("wb") if log else None
        self._process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
        if output:
            output.close()

    def ended(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def end(self, patience: float) -> None:
        """Ask it to end, and make it after `patience` seconds."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def tail(self) -> str:
        """The end of its log, in one line."""
        if self._log is None:
            return ""
        return " | ".join(self._log.read_bytes()[-TAIL_BYTES:].decode(errors="replace").split("\n")[-8:]).strip(" |")


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
