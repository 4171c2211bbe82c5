"""How a training process fails, as exceptions: each class has its own exit code and outcome."""

from typing import ClassVar

from finetune_api.exit_codes import ExitCode


class TrainerError(Exception):
    """An end that the trainer understands; the message says what is wrong and how to mend it."""

    exit_code: ClassVar[int] = 1
    outcome: ClassVar[str] = "Crash"


class ConfigurationError(TrainerError):
    """The job asks for something that cannot work; another attempt would end the same way."""

    exit_code = ExitCode.CONFIGURATION
    outcome = "ConfigurationError"


class DataError(TrainerError):
    """The data cannot be read or used; names the file and the line."""

    exit_code = ExitCode.DATA
    outcome = "DataError"


class OutOfMemory(TrainerError):
    """The host or the GPU has too little memory."""

    exit_code = ExitCode.OUT_OF_MEMORY
    outcome = "OutOfMemory"


class Preempted(TrainerError):
    """Stopped on SIGTERM at a step boundary, after a verified checkpoint."""

    exit_code = ExitCode.PREEMPTED
    outcome = "Preempted"

    def __init__(self, message: str, step: int | None = None) -> None:
        super().__init__(message)
        self.step = step
