"""The worker processes of one pod, run by PyTorch's elastic agent (what torchrun uses), with its traps closed.

The agent as it comes
- raises an exception inside itself on SIGTERM and kills workers after 30 s: a checkpoint may take longer;
- cannot be interrupted while it waits for the other pods, which blocks in C++;
- gives the peers of a dead worker 30 s, which they spend hanging in a collective.
Here it runs in a thread, where it takes no signals, and its monitor ends worker processes by our rules.
"""

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.rendezvous import RendezvousParameters
from torch.distributed.elastic.rendezvous.static_tcp_rendezvous import create_rdzv_handler

from finetune_api.exit_codes import ExitCode
from finetune_trainer.launch.topology import Topology

log = logging.getLogger(__name__)

ORDERLY = (ExitCode.DONE, ExitCode.PREEMPTED)
"""Ends after which the peers are about to end too, of their own accord."""
POLL_SECONDS = 0.05


@dataclass
class Workers:
    """The process groups of a pod's workers, as the signal handlers see them."""

    pids: dict[int, int] = field(default_factory=dict)
    """Process id by local rank."""
    killed: set[int] = field(default_factory=set)
    """Local ranks that we ended with SIGKILL."""

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every worker that still runs, and to what it started."""
        for local_rank, pid in self.pids.items():
            if ended(pid) is None:
                if number == signal.SIGKILL:
                    self.killed.add(local_rank)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, number)

    def running(self) -> list[int]:
        """Local ranks whose process has not ended."""
        return [local_rank for local_rank, pid in self.pids.items() if ended(pid) is None]


def ended(pid: int) -> int | None:
    """How a child ended, or None while it runs. It is only looked at: the agent still collects it.

    A child that was collected already counts as ended with 0, for whoever collected it has acted on its status.
    """
    try:
        status = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return 0
    if status is None:
        return None
    return status.si_status if status.si_code == os.CLD_EXITED else -status.si_status


class TrainingAgent(LocalElasticAgent):
    """Never restarts workers: a lost process restarts the whole gang, which is the operator's business."""

    def __init__(
        self, spec: WorkerSpec, workers: Workers, peer_grace: float, stop_grace: float, **options: Any
    ) -> None:
        super().__init__(spec, **options)
        self._workers = workers
        self._peer_grace = peer_grace
        self._stop_grace = stop_grace

    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, Any]:
        started = super()._start_workers(worker_group)
        self._workers.pids.update(started)
        return started

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        ends = [end for pid in self._workers.pids.values() if (end := ended(pid)) is not None]
        if any(end not in ORDERLY for end in ends):
            self._workers.signal(signal.SIGTERM)
            self._await_end(self._peer_grace)
        elif ExitCode.PREEMPTED in ends:
            self._await_end(self._stop_grace)
        return super()._monitor_workers(worker_group)

    def _await_end(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._workers.running() and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        if running := self._workers.running():
            log.warning("local ranks %s did not end within %g s and are killed", running, seconds)
            self._workers.signal(signal.SIGKILL)


@dataclass
class AgentRun:
    """An agent at work in its own thread."""

    workers: Workers
    thread: threading.Thread = field(default_factory=threading.Thread)
    failures: dict[int, int] = field(default_factory=dict)
    """Exit status by global rank of every worker that did not end with 0; negative for a signal."""
    done: bool = False
    error: BaseException | None = None
    """Why the agent itself failed, most likely the other pods did not come."""


def start_agent(
    topology: Topology,
    command: list[str],
    run_id: str,
    folder: Path,
    *,
    when_done: Callable[[], None],
    rendezvous_timeout: float,
    peer_grace: float,
    stop_grace: float,
) -> AgentRun:
    """Start the workers of this pod: `command` once for each local rank, after all pods have met.

    `folder` is for the agent's own files.
    """
    # It warns that signals are not handled in a thread, which is the point, and calls every end a failure.
    logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.CRITICAL)
    workers = Workers()
    endpoint = f"{topology.master_addr}:{topology.master_port}"
    parameters = RendezvousParameters(
        backend="static",
        endpoint=endpoint,
        run_id=run_id,
        min_nodes=topology.nodes,
        max_nodes=topology.nodes,
        rank=topology.node_rank,
        timeout=int(rendezvous_timeout),
    )
    spec = WorkerSpec(
        role="trainer",
        local_world_size=topology.processes,
        entrypoint=command[0],
        args=tuple(command[1:]),
        rdzv_handler=create_rdzv_handler(parameters),
        max_restarts=0,
        monitor_interval=0.1,
        master_addr=topology.master_addr,
        master_port=topology.master_port,
    )
    agent = TrainingAgent(
        spec, workers, peer_grace, stop_grace, logs_specs=DefaultLogsSpecs(log_dir=str(folder)), shutdown_timeout=1
    )
    run = AgentRun(workers)
    run.thread = threading.Thread(target=_run_agent, args=(agent, run, when_done), name="elastic-agent", daemon=True)
    run.thread.start()
    return run


def _run_agent(agent: TrainingAgent, run: AgentRun, when_done: Callable[[], None]) -> None:
    try:
        result = agent.run()
        run.failures = {rank: failure.exitcode for rank, failure in result.failures.items()}
    except BaseException as error:
        run.error = error
    finally:
        run.done = True
        when_done()
