"""One process of the run: tells the recipe who it is, and the world how it ended."""

import ctypes
import faulthandler
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from finetune_api import names
from finetune_api.exit_codes import ExitCode
from finetune_api.reports import TerminationMessage, TrainingResult
from finetune_trainer import termination
from finetune_trainer.errors import exit_code_of
from finetune_trainer.launch.stacks import stacks_file
from finetune_trainer.redaction import RedactingFormatter
from finetune_trainer.stop import StopSignal

if TYPE_CHECKING:
    from finetune_api.trainer_config import TrainerConfig
    from finetune_trainer.run import Run

ENV_MESSAGES = "FINETUNE_WORKER_MESSAGES"
"""Folder where the workers leave their last words for the launcher."""
ENV_LAUNCHER_PID = "FINETUNE_LAUNCHER_PID"
ENV_SCRATCH = "FINETUNE_SCRATCH"
"""Overrides `names.SCRATCH_MOUNT`."""
ENV_LOG_LEVEL = "FINETUNE_LOG_LEVEL"
MESSAGE_LIMIT = 256 * 1024
PR_SET_PDEATHSIG = 1

Train = Callable[["TrainerConfig", "Run"], TrainingResult | None]

log = logging.getLogger(__name__)


def message_file(folder: Path, rank: int) -> Path:
    """Where a worker leaves its last words."""
    return folder / f"rank-{rank}.json"


def memory_file(folder: Path, rank: int) -> Path:
    """Where a worker leaves what fills its memory: who is killed for it can say nothing then."""
    return folder / f"rank-{rank}.memory"


def prepare_process() -> None:
    """Let stacks be asked for with SIGUSR1, and never outlive the launcher."""
    answer_with_stacks()
    die_with_launcher()
    keep_caches_writable()


def answer_with_stacks() -> None:
    """On SIGUSR1, and when the process crashes."""
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, file=_open_stacks(), all_threads=True, chain=False)


def keep_caches_writable() -> None:
    """Sends the Hub's cache to the scratch folder where the home folder will not take it."""
    if not _home_is_writable():
        # The root of a hardened pod is read-only; the Hub's client would fail to make its cache.
        os.environ.setdefault("HF_HOME", str(scratch_folder() / "huggingface"))


def _open_stacks() -> int:
    """A file of this rank's own, for as long as the process lives; standard error where no launcher collects them."""
    folder = os.environ.get(ENV_MESSAGES)
    if folder is None:
        return sys.stderr.fileno()
    path = stacks_file(Path(folder), int(os.environ.get("RANK", "0")))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def die_with_launcher() -> None:
    """Let the kernel end this process when its launcher is killed, so that none is left behind."""
    launcher = os.environ.get(ENV_LAUNCHER_PID)
    if launcher is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(launcher):  # it died before we asked
        os._exit(1)


def scratch_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """A folder for what may be lost with the pod: the mounted one, or below the system's temporary folder."""
    chosen = environment.get(ENV_SCRATCH)
    if chosen:
        Path(chosen).mkdir(parents=True, exist_ok=True)
        return Path(chosen)
    mounted = Path(names.SCRATCH_MOUNT)
    if mounted.is_dir() and os.access(mounted, os.W_OK):
        return mounted
    folder = Path(tempfile.gettempdir()) / f"finetune-scratch-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    return folder


def _home_is_writable() -> bool:
    home = os.path.expanduser("~")  # "~" itself for a user id that no one knows, which clusters hand out
    if home == "~":
        return False
    cache = Path(os.environ.get("XDG_CACHE_HOME") or f"{home}/.cache")
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    return os.access(existing, os.W_OK)


def configure_logging(rank: int, world_size: int) -> None:
    """Lines on stderr with time in UTC, and the rank where there are several."""
    who = f" rank {rank}" if world_size > 1 else ""
    formatter = RedactingFormatter(
        f"%(asctime)s.%(msecs)03dZ %(levelname)s{who} %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.getLogger("torchao").setLevel(logging.ERROR)  # names the kernels of processors that are not here
    logging.getLogger("bitsandbytes.backends").setLevel(logging.ERROR)  # names a faster kernel that few jobs would use
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)  # tells torchao's authors of a call
    logging.getLogger("matplotlib.font_manager").setLevel(logging.WARNING)
    logging.basicConfig(level=os.environ.get(ENV_LOG_LEVEL, "INFO").upper(), handlers=[handler], force=True)


def work(config: "TrainerConfig", train: Train, stop: StopSignal) -> int:
    """Run `train` as the process that the environment describes and return its exit code; never raises.

    What it said last goes to the launcher, or, without one, straight into the termination message.
    """
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    configure_logging(rank, world_size)
    run: Run | None = None
    try:
        run = _open_run(config, rank, world_size, stop)
        result = train(config, run)
        message, code = termination.success(result, rank, _step(run)), 0
    except BaseException as error:
        message, code = termination.message_of(error, rank, _step(run)), exit_code_of(error)
        log.log(_severity(code), "%s: %s", message.outcome, message.message, exc_info=error if code == 1 else None)
    finally:
        if run is not None:
            run.reporter.close()
    leave(message, rank)
    return code


def leave(message: TerminationMessage, rank: int) -> None:
    """Put the last words where they are read: by the launcher, or by the kubelet when there is no launcher."""
    folder = os.environ.get(ENV_MESSAGES)
    if folder is None:
        termination.write(message, termination.termination_file())
    else:
        message_file(Path(folder), rank).write_bytes(termination.encode(message, MESSAGE_LIMIT))


def _open_run(config: "TrainerConfig", rank: int, world_size: int, stop: StopSignal) -> "Run":
    from finetune_trainer.heartbeat import Heartbeat, heartbeat_file
    from finetune_trainer.progress import Receiver, Reporter
    from finetune_trainer.prometheus import TrainingMetrics, metrics_port
    from finetune_trainer.run import Run

    messages = os.environ.get(ENV_MESSAGES)
    metrics = TrainingMetrics()
    if rank == 0 and (port := metrics_port()):
        metrics.serve(port)
    return Run(
        scratch=scratch_folder(),
        rank=rank,
        local_rank=int(os.environ.get("LOCAL_RANK", "0")),
        world_size=world_size,
        local_world_size=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        stop=stop,
        reporter=Reporter(Receiver.from_environment() if rank == 0 else None, config.job.attempt),
        heartbeat=Heartbeat(heartbeat_file(Path(messages), rank) if messages else None, config.hang_timeout_seconds),
        metrics=metrics,
        memory_note=memory_file(Path(messages), rank) if messages else None,
    )


def _step(run: "Run | None") -> int | None:
    return run.reporter.latest.step or None if run is not None else None


def _severity(code: int) -> int:
    return logging.WARNING if code == ExitCode.PREEMPTED else logging.ERROR
