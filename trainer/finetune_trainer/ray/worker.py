"""What Ray Train runs in each worker: the same recipe as under torchrun, in a thread of Ray's process."""

import os
import re
from pathlib import Path
from typing import Any

from finetune_api.exit_codes import ExitCode
from finetune_api.reports import TerminationMessage, TrainingResult
from finetune_api.trainer_config import TrainerConfig
from finetune_trainer import termination
from finetune_trainer.launch.configuration import load
from finetune_trainer.launch.worker import (
    ENV_LAUNCHER_PID,
    ENV_MESSAGES,
    answer_with_stacks,
    keep_caches_writable,
    message_file,
    work,
)
from finetune_trainer.ray.groups import ENV_CONFIG, STOP, sign_on
from finetune_trainer.run import Run
from finetune_trainer.stop import StopFlag


class WorkerFailed(Exception):
    """Carries a worker's last words to the driver."""


def said_in(text: str) -> TerminationMessage | None:
    """The last words in what Ray Train makes of a worker's exception: its traceback."""
    found = re.search(rf"{WorkerFailed.__name__}: (\{{.*\}})$", text, re.MULTILINE)
    return TerminationMessage.model_validate_json(found[1]) if found else None


def train_loop(settings: dict[str, Any]) -> None:
    """Trains as the process that Ray Train made this one.

    Raises:
        WorkerFailed: For Ray's FailureConfig. A stop that all ranks agreed on is none.
    """
    messages, rank = Path(os.environ[ENV_MESSAGES]), int(os.environ["RANK"])
    log_to_the_pod()
    folder = sign_on(messages, os.environ["MASTER_PORT"], rank)
    os.environ[ENV_MESSAGES] = str(folder)
    answer_with_stacks()
    keep_caches_writable()
    code = work(load(Path(os.environ[ENV_CONFIG])), _train, StopFlag(messages / STOP))
    if code not in (ExitCode.DONE, ExitCode.PREEMPTED):
        words = termination.read(message_file(folder, rank))
        assert words is not None
        raise WorkerFailed(words.model_dump_json(by_alias=True))


def _train(config: TrainerConfig, run: Run) -> TrainingResult | None:
    from finetune_trainer.recipe import train  # within `work`: an image that lacks a package is told of too

    return train(config, run)


def log_to_the_pod() -> None:
    """Ray sends what its processes print into files; here it goes where the launcher's lines go."""
    try:
        log = os.open(f"/proc/{os.environ[ENV_LAUNCHER_PID]}/fd/2", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    except OSError:  # a socket, which has no second end to open
        return
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
