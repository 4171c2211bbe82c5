"""The last word of a process: one JSON line that the kubelet puts into the pod's status."""

import logging
import os
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path

from finetune_api import names
from finetune_api.reports import (
    CAUSED_BY,
    MAX_TERMINATION_BYTES,
    WHILE_HANDLING,
    TerminationMessage,
    TrainingResult,
)
from finetune_storage.errors import StorageError
from finetune_trainer.errors import Preempted, TrainerError, outcome_of
from finetune_trainer.redaction import redact

log = logging.getLogger(__name__)

TRACEBACK_FRAMES = 4
EARLIER_EXCEPTIONS, EARLIER_LENGTH = 3, 400
"""How many are told, and how much of each."""
CUT = " … "


def termination_file(environment: Mapping[str, str] = os.environ) -> Path:
    """Where the message goes: what the environment names, else the kubelet's default."""
    return Path(environment.get(names.ENV_TERMINATION_FILE) or names.TERMINATION_FILE)


def message_of(error: BaseException, rank: int = 0, step: int | None = None) -> TerminationMessage:
    """What to say of an error: its own words when we know it, else also the end of its traceback."""
    text = str(error) if isinstance(error, (TrainerError, StorageError)) else _with_traceback(error)
    return TerminationMessage(
        outcome=outcome_of(error),
        message=redact(text),
        rank=rank,
        step=error.step if isinstance(error, Preempted) else step,
    )


def success(result: TrainingResult | None, rank: int = 0, step: int | None = None) -> TerminationMessage:
    """What to say of a finished run."""
    return TerminationMessage(outcome="Succeeded", rank=rank, step=step, result=result)


def _with_traceback(error: BaseException) -> str:
    return "\n".join([_with_places(error), *_earlier(error)])


def _earlier(error: BaseException) -> Iterator[str]:
    """The exceptions that it followed, the last one first: who reads on sees whose fault it was."""
    for _ in range(EARLIER_EXCEPTIONS):
        how = CAUSED_BY if error.__cause__ else WHILE_HANDLING
        earlier = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if earlier is None:
            return
        summary = " ".join("".join(traceback.format_exception_only(earlier)).split())
        yield f"{how}: {_cut(summary, EARLIER_LENGTH)}"
        error = earlier


def _with_places(error: BaseException) -> str:
    summary = "".join(traceback.format_exception_only(error)).strip()
    frames = traceback.extract_tb(error.__traceback__)[-TRACEBACK_FRAMES:]
    places = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in reversed(frames)]
    return f"{summary} (at {' < '.join(places)})" if places else summary


def termination_limit(environment: Mapping[str, str] = os.environ) -> int:
    """How many bytes the kubelet keeps: what the environment says, at most its limit for one container."""
    said = environment.get(names.ENV_TERMINATION_BYTES, "")
    return min(int(said), MAX_TERMINATION_BYTES) if said.isdecimal() else MAX_TERMINATION_BYTES


def encode(message: TerminationMessage, limit: int = MAX_TERMINATION_BYTES) -> bytes:
    """One JSON line of at most `limit` bytes: the message is cut in its middle, then the last stacks and metrics go.

    What the operator cannot do without (outcome, artifact, digest) always stays.
    """
    line = _line(message)
    if len(line) <= limit:
        return line
    text, keep = message.message, len(message.message)
    while len(line) > limit and keep > 200:
        keep = max(200, keep - max(1, (len(line) - limit) // 2))
        message = message.model_copy(update={"message": _cut(text, keep)})
        line = _line(message)
    while len(line) > limit and message.stacks:
        message = message.model_copy(update={"stacks": message.stacks[:-1]})
        line = _line(message)
    while len(line) > limit and message.result and _droppable(message.result):
        message = message.model_copy(update={"result": _shorter(message.result)})
        line = _line(message)
    return line


def _line(message: TerminationMessage) -> bytes:
    return message.model_dump_json(by_alias=True, exclude_none=True).encode() + b"\n"


def _cut(text: str, keep: int) -> str:
    if len(text) <= keep:
        return text
    head = keep // 2
    return text[:head] + CUT + text[len(text) - (keep - head) :]


def _droppable(result: TrainingResult) -> bool:
    return bool(result.versions or result.metrics or any(step.metrics for step in result.postprocess))


def _shorter(result: TrainingResult) -> TrainingResult:
    if result.versions:
        return result.model_copy(update={"versions": {}})
    if result.metrics:
        return result.model_copy(update={"metrics": _without_last(result.metrics)})
    steps = [step.model_copy(update={"metrics": _without_last(step.metrics)}) for step in result.postprocess]
    return result.model_copy(update={"postprocess": steps})


def _without_last(metrics: dict[str, float]) -> dict[str, float]:
    return dict(list(metrics.items())[:-1])


def write(message: TerminationMessage, path: Path) -> None:
    """Put the message where the kubelet reads it.

    The kubelet mounts the file itself, so it cannot be replaced by a rename: one write() of the whole line it is.
    A place that cannot be written is no reason to end otherwise, so it only goes to the log.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            os.write(descriptor, encode(message, termination_limit()))
        finally:
            os.close(descriptor)
    except OSError as error:
        log.warning("no termination message: %s: %s", path, error)


def read(path: Path) -> TerminationMessage | None:
    """A message that was written, or None where there is none that can be understood."""
    try:
        return TerminationMessage.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        return None
