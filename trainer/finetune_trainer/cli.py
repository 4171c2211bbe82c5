"""`finetune-trainer --config FILE`: the same command in every training pod."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from finetune_trainer.stop import StopSignal

if TYPE_CHECKING:
    from finetune_api.reports import TerminationMessage, TrainingResult
    from finetune_api.trainer_config import TrainerConfig
    from finetune_trainer.launch.topology import Topology
    from finetune_trainer.run import Run


def main() -> None:
    """Entry point of the console script."""
    # Before any slow import: process 1 of a container never sees a signal that it has no handler for.
    stop = StopSignal().install()
    code = run(sys.argv[1:], stop)
    sys.stdout.flush()
    sys.stderr.flush()
    if code:  # threads of libraries, or of an agent that waits for pods, must not hold up the end of a failed run
        os._exit(code)


def run(arguments: list[str], stop: StopSignal) -> int:
    """Do what the command line says and return the exit code (`finetune_api.exit_codes`)."""
    options = _parser().parse_args(arguments)

    from finetune_storage.errors import StorageError
    from finetune_trainer import termination
    from finetune_trainer.errors import TrainerError
    from finetune_trainer.launch import configuration
    from finetune_trainer.launch.masked_output import masked_output
    from finetune_trainer.launch.topology import topology_of

    try:
        config = configuration.load(options.config)
        topology = None if options.worker or options.preflight else topology_of()
        if topology is None and not options.preflight:
            return _work(config, stop)
        with masked_output():
            return _supervise(config, topology, options.config, stop) if topology else _only_look(config)
    except (TrainerError, StorageError) as error:
        return _end(termination.message_of(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="finetune-trainer",
        description="Fine-tune a model as job.json says. With PET_* variables set, this pod is one of a gang and the "
        "command starts its worker processes; without them it trains in this process.",
        epilog="Exit codes: 0 done, 2 configuration, 3 data, 4 out of memory, 75 stopped on request, 76 hang; else a "
        "crash.",
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the job, as JSON")
    parser.add_argument("--preflight", action="store_true", help="only look whether model and data are there, and end")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser


def _work(config: "TrainerConfig", stop: StopSignal) -> int:
    from finetune_trainer.launch.worker import prepare_process, work

    prepare_process()
    return work(config, _train, stop)


def _train(config: "TrainerConfig", run: "Run") -> "TrainingResult | None":
    from finetune_trainer.recipe import train  # PyTorch and transformers: seconds

    return train(config, run)


def _look_first(config: "TrainerConfig") -> int:
    """Of pod 0: tells the operator what the preflight found. The exit code; 0 says to go on."""
    from finetune_trainer.heartbeat import OTHER_SECONDS
    from finetune_trainer.launch.preflight import found, look, tell
    from finetune_trainer.launch.time_limit import time_limit

    def end(message: "TerminationMessage") -> int:
        unknown = found("Unknown", message.outcome, message.message)
        return _end(message.model_copy(update={"preflight": unknown}))

    with time_limit(OTHER_SECONDS, "the preflight", end):
        message = look(config)
    if message.outcome == "Succeeded" and message.preflight:
        tell(message.preflight, config.job.attempt)
        return 0
    return _end(message)


def _only_look(config: "TrainerConfig") -> int:
    """Of a pod beside the gang: what the kernel allows it says nothing of what the gang will have."""
    from finetune_trainer.launch.preflight import look
    from finetune_trainer.launch.worker import configure_logging

    configure_logging(0, 1)
    return _end(look(config, limit_file=None, trains=False))


def _end(message: "TerminationMessage") -> int:
    """Leaves the last words; the exit code that goes with them."""
    from finetune_trainer import termination
    from finetune_trainer.launch import verdict

    termination.write(message, termination.termination_file())
    print(f"finetune-trainer: {message.outcome}. {message.message}".rstrip(), file=sys.stderr)
    return verdict.exit_code(message)


def _supervise(config: "TrainerConfig", topology: "Topology", path: Path, stop: StopSignal) -> int:
    from finetune_trainer.launch.supervisor import Supervisor, Timing
    from finetune_trainer.launch.worker import configure_logging, scratch_folder

    configure_logging(0, 1)
    timing = Timing.from_environment()
    if topology.node_rank == 0 and (code := _look_first(config)):
        return code
    if config.distributed.engine == "Ray":
        from finetune_trainer.ray.node import require_ray
        from finetune_trainer.ray.supervisor import RaySupervisor

        require_ray()
        message = RaySupervisor(topology, path, scratch_folder(), timing, stop).run()
    else:
        command = [sys.executable, "-m", "finetune_trainer.cli", "--config", str(path.absolute()), "--worker"]
        run_id = f"{config.job.uid}-{config.job.attempt}"
        message = Supervisor(topology, command, run_id, scratch_folder(), timing, stop).run()
    return _end(message)


if __name__ == "__main__":
    main()
