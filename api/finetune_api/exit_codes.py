"""How a training process ends. The operator decides from these whether another attempt can help."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit status of `finetune-trainer`; any other value is a crash."""

    DONE = 0
    CONFIGURATION = 2
    DATA = 3
    OUT_OF_MEMORY = 4
    PREEMPTED = 75
    """EX_TEMPFAIL: stopped on SIGTERM after a verified checkpoint."""
    HANG = 76
