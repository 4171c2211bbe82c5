"""The driver of a Ray gang, a process of pod 0: waits for the nodes, and lets Ray Train run the workers.

Ray keeps none of our state: what `ray.train.report` stores is not verified, and is lost when a worker dies before Ray
has looked. Workers that Ray starts again resume from our newest verified checkpoint.
https://docs.ray.io/en/latest/train/user-guides/fault-tolerance.html
"""

import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import ray
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from finetune_api.distributed import Ray
from finetune_api.reports import TerminationMessage
from finetune_api.trainer_config import TrainerConfig
from finetune_trainer import termination
from finetune_trainer.errors import TrainerError
from finetune_trainer.launch import verdict
from finetune_trainer.launch.configuration import load
from finetune_trainer.launch.discovery import wait_until_listening
from finetune_trainer.launch.supervisor import Timing
from finetune_trainer.launch.topology import Topology, topology_of
from finetune_trainer.launch.worker import ENV_MESSAGES, configure_logging, die_with_launcher
from finetune_trainer.loop.process_group import TIMEOUT
from finetune_trainer.ray.groups import DRIVER_WORDS, ENV_CONFIG, FAREWELL
from finetune_trainer.ray.node import NODE_LABEL, pod_address
from finetune_trainer.ray.worker import said_in, train_loop

log = logging.getLogger(__name__)

FAREWELL_SECONDS = 30.0
POLL_SECONDS = 0.2


def main() -> int:
    """Runs the gang to its end; the last words go to the launcher."""
    die_with_launcher()
    configure_logging(0, 1)
    config, topology, timing = load(Path(os.environ[ENV_CONFIG])), topology_of(), Timing.from_environment()
    assert topology is not None
    try:
        join(topology, timing.rendezvous)
        trainer(config, topology, Path(os.environ[ENV_MESSAGES])).fit()
        message = TerminationMessage(outcome="Succeeded")
        bid_farewell()
    except BaseException as error:
        message = message_of(error)
    words = Path(os.environ[ENV_MESSAGES]) / DRIVER_WORDS
    termination.write(message, words)
    return verdict.exit_code(message)


def join(topology: Topology, timeout: float) -> None:
    """Connects to the cluster, and waits until all of its nodes are there.

    Raises:
        TrainerError: They did not come within `timeout` seconds.
    """
    wait_until_listening(topology.master_addr, topology.master_port, timeout, lambda: False)
    ray.init(
        address=f"{topology.master_addr}:{topology.master_port}",
        _node_ip_address=pod_address(),
        configure_logging=False,
        log_to_driver=False,
    )
    deadline = time.monotonic() + timeout
    while (there := len(nodes())) < topology.nodes:
        if time.monotonic() >= deadline:
            raise TrainerError(f"{there} of {topology.nodes} pods did not meet at Ray's head within {timeout:g} s")
        time.sleep(POLL_SECONDS)
    log.info("Ray %s: %d nodes", ray.__version__, topology.nodes)


def nodes() -> list[dict[str, Any]]:
    """The nodes that live."""
    return [node for node in ray.nodes() if node["Alive"]]


def trainer(config: TrainerConfig, topology: Topology, scratch: Path) -> TorchTrainer:
    """As many workers in each pod as its job says, ranks in the order of the pods."""
    on_gpu = torch.cuda.is_available()
    failures = (config.distributed.ray or Ray()).max_failures
    return TorchTrainer(
        train_loop,
        train_loop_config={},
        torch_config=TorchConfig(
            backend="cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout_s=int(TIMEOUT.total_seconds())
        ),
        scaling_config=ScalingConfig(
            num_workers=topology.world_size,
            use_gpu=on_gpu,
            resources_per_worker={"CPU": 1, **({"GPU": 1} if on_gpu else {})},
            # Ray Train 2 has more options than what `ray.train` declares.
            label_selector=[  # type: ignore[call-arg]
                {NODE_LABEL: str(rank // topology.processes)} for rank in range(topology.world_size)
            ],
        ),
        run_config=RunConfig(
            name=f"attempt-{config.job.attempt}",
            storage_path=str(scratch / "ray-train"),
            failure_config=FailureConfig(max_failures=failures, controller_failure_limit=failures),  # type: ignore[call-arg]
        ),
    )


def message_of(error: BaseException) -> TerminationMessage:
    """Of what Ray Train gave up for: the worker whose failure came first, and not those that it took along."""
    if isinstance(error, WorkerGroupError):
        return verdict.judge([_end(rank, failure) for rank, failure in error.worker_failures.items()], UNTOLD)
    if isinstance(error, TrainingFailedError):
        error = TrainerError(f"Ray Train gave up: {error}")
    return termination.message_of(error)


UNTOLD = verdict.Surroundings()


def _end(rank: int, failure: Exception) -> verdict.WorkerEnd:
    message = said_in(str(failure))
    if message is None:  # its process died, or Ray could not reach it any more
        return verdict.WorkerEnd(rank, -signal.SIGKILL)
    return verdict.WorkerEnd(rank, verdict.exit_code(message), message)


def bid_farewell() -> None:
    """Lets the launchers of the other pods go, which wait because Ray takes a node that leaves for one that failed."""
    own = ray.get_runtime_context().get_node_id()
    others = [node["NodeID"] for node in nodes() if node["NodeID"] != own]
    told = [
        _leave_farewell.options(scheduling_strategy=NodeAffinitySchedulingStrategy(other, soft=False)).remote()
        for other in others
    ]
    ray.get(told, timeout=FAREWELL_SECONDS)


@ray.remote(num_cpus=0)
def _leave_farewell() -> None:
    (Path(os.environ[ENV_MESSAGES]) / FAREWELL).touch()


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # Ray's own end of a driver waits for what is of no interest any more
