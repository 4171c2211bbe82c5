"""Failing to start: one clear line for the log and for the pod's termination message, and an exit code."""

import logging
import os
from pathlib import Path

from finetune_api.exit_codes import ExitCode
from finetune_api.names import ENV_TERMINATION_FILE, TERMINATION_FILE
from finetune_api.reports import MAX_TERMINATION_BYTES

log = logging.getLogger(__name__)


class StartupError(Exception):
    """The server cannot serve this model; the message says which file or flag, and what mends it."""

    def __init__(self, message: str, exit_code: ExitCode = ExitCode.CONFIGURATION) -> None:
        super().__init__(" ".join(message.split()))
        self.exit_code = exit_code


def write_termination_message(message: str) -> None:
    """Leave `message` where the kubelet picks it up. Outside a pod there is no such file, and that is fine."""
    path = Path(os.environ.get(ENV_TERMINATION_FILE, TERMINATION_FILE))
    if not path.parent.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        log.debug("no termination message file at %s", path)
        return
    path.write_bytes(message.encode()[:MAX_TERMINATION_BYTES])
