"""How a run can fail, and the exit code and outcome that each failure has.

The operator decides from these whether another attempt can help, so a class says who can mend it: the author of the
job (configuration, data), nobody but a bigger machine (memory), or time (everything else).
"""

from collections.abc import Iterator
from contextlib import contextmanager

from finetune_api.exit_codes import ExitCode
from finetune_api.reports import Outcome
from finetune_storage.errors import AccessDeniedError, NotFoundError, StorageError, UriError

CRASH = 1
"""Exit status of anything that has no code of its own; what Python itself uses."""

OUTCOME_OF_EXIT_CODE: dict[int, Outcome] = {
    ExitCode.DONE: "Succeeded",
    ExitCode.CONFIGURATION: "ConfigurationError",
    ExitCode.DATA: "DataError",
    ExitCode.OUT_OF_MEMORY: "OutOfMemory",
    ExitCode.PREEMPTED: "Preempted",
    ExitCode.HANG: "Hang",
}


class TrainerError(Exception):
    """Base of the failures that we can name."""

    exit_code: int = CRASH
    outcome: Outcome = "Crash"


class ConfigurationError(TrainerError):
    """The job is wrong and will fail again: a field, a model that is not for the task, a place that is not there."""

    exit_code = ExitCode.CONFIGURATION
    outcome = "ConfigurationError"


class DataError(TrainerError):
    """The data is wrong and will fail again."""

    exit_code = ExitCode.DATA
    outcome = "DataError"


class OutOfMemory(TrainerError):
    """Host or accelerator memory ran out."""

    exit_code = ExitCode.OUT_OF_MEMORY
    outcome = "OutOfMemory"


class Preempted(TrainerError):
    """Stopped on request, after a verified checkpoint unless no step was made."""

    exit_code = ExitCode.PREEMPTED
    outcome = "Preempted"

    def __init__(self, step: int, uri: str | None) -> None:
        self.step = step
        self.uri = uri
        saved = f"checkpoint {uri}" if uri else "no checkpoint yet"
        super().__init__(f"stopped on request at step {step}, {saved}")


class CheckpointError(TrainerError):
    """A checkpoint that had to be written could not be."""


class Superseded(CheckpointError):
    """A newer attempt of the job has taken over its checkpoints: this one was lost sight of and must end."""


@contextmanager
def of_field(path: str) -> Iterator[None]:
    """Names the field of the job whose place cannot be used."""
    try:
        yield
    except StorageError as error:
        raise type(error)(f"{path}: {error}") from error


def exit_code_of(error: BaseException) -> int:
    """The exit code of a process that ends with this error."""
    codes = {outcome: code for code, outcome in OUTCOME_OF_EXIT_CODE.items()}
    return codes.get(outcome_of(error), CRASH)


def outcome_of(error: BaseException) -> Outcome:
    """The outcome in the termination message of a process that ends with this error."""
    if isinstance(error, TrainerError):
        return error.outcome
    if isinstance(error, (NotFoundError, AccessDeniedError, UriError)):
        return "ConfigurationError"
    return "OutOfMemory" if is_out_of_memory(error) else "Crash"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python's own error, PyTorch's, or an allocator's that PyTorch passes on as text.

    The CPU allocator of PyTorch raises a plain RuntimeError; libraries on top of CUDA do too.
    """
    if isinstance(error, MemoryError) or type(error).__name__ in ("OutOfMemoryError", "AcceleratorOutOfMemory"):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(
        phrase in text
        for phrase in (
            "CUDA out of memory",
            "CUDA error: out of memory",
            "DefaultCPUAllocator: can't allocate memory",
            "DefaultCPUAllocator: not enough memory",
            "CUBLAS_STATUS_ALLOC_FAILED",
        )
    )
