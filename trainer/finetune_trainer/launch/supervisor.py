"""The launcher of a pod: starts the workers, passes signals on, ends everything in time, and reports once."""

import logging
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finetune_api.names import ENV_STOP_GRACE
from finetune_api.reports import TerminationMessage
from finetune_trainer import termination
from finetune_trainer.errors import ConfigurationError, TrainerError
from finetune_trainer.launch import verdict
from finetune_trainer.launch.discovery import wait_until_resolvable
from finetune_trainer.launch.hang_watch import HangWatch, Overdue
from finetune_trainer.launch.requests import Requests
from finetune_trainer.launch.stacks import Dump, collect
from finetune_trainer.launch.topology import Topology
from finetune_trainer.launch.worker import ENV_LAUNCHER_PID, ENV_MESSAGES, memory_file, message_file
from finetune_trainer.processors import threads_per_process, usable_processors
from finetune_trainer.stop import StopSignal

if TYPE_CHECKING:
    from finetune_trainer.launch.agent import AgentRun

log = logging.getLogger(__name__)

ENV_PEER_GRACE = "FINETUNE_PEER_GRACE_SECONDS"
"""How long the peers of a dead worker may take to end; they cannot do anything useful any more."""
LOOK_SECONDS = 1.0
ENV_RENDEZVOUS_TIMEOUT = "FINETUNE_RENDEZVOUS_TIMEOUT_SECONDS"
"""How long to wait for pod 0's name and for the other pods, which may start minutes apart."""


@dataclass(frozen=True)
class Timing:
    """Patience, in seconds."""

    stop_grace: float = 110.0
    peer_grace: float = 10.0
    rendezvous: float = 900.0
    hang_settle: float = 5.0
    """Between the stacks of a hang and the end of the pod, which ends the others. They find out at the same time."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Timing":
        """The defaults, but for what the environment says.

        Raises:
            ConfigurationError: A variable is no positive number.
        """
        return cls(
            _seconds(environment, ENV_STOP_GRACE, cls.stop_grace),
            _seconds(environment, ENV_PEER_GRACE, cls.peer_grace),
            _seconds(environment, ENV_RENDEZVOUS_TIMEOUT, cls.rendezvous),
        )


def _seconds(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e6:
        raise ConfigurationError(f"{name}: expected a positive number of seconds; got {text!r}")
    return value


class Supervisor:
    """Runs one pod's workers to their end. Make it and call `run` in the main thread: it takes the signals."""

    def __init__(
        self, topology: Topology, command: list[str], run_id: str, scratch: Path, timing: Timing, stop: StopSignal
    ) -> None:
        self._topology = topology
        self._command = command
        self._run_id = run_id
        self._timing = timing
        self._scratch = scratch
        self._requests = Requests(stop)
        self._hang: TerminationMessage | None = None

    def run(self) -> TerminationMessage:
        """Wait for the gang, run the workers, and judge how they ended. Never raises for what workers do."""
        self._requests.listen()
        if not wait_until_resolvable(
            self._topology.master_addr, self._timing.rendezvous, self._requests.stopped, self._requests.wait
        ):
            return verdict.preempted_early("asked to stop while waiting for pod 0")
        folder = Path(tempfile.mkdtemp(prefix="launch-", dir=self._scratch))
        try:
            return self._run_workers(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _run_workers(self, folder: Path) -> TerminationMessage:
        self._prepare_environment(folder)
        killed_before = verdict.oom_kills()
        from finetune_trainer.launch.agent import start_agent  # PyTorch: seconds, in which the name was waited for

        agent = start_agent(
            self._topology,
            self._command,
            self._run_id,
            folder,
            when_done=self._requests.wake,
            rendezvous_timeout=self._timing.rendezvous,
            peer_grace=self._timing.peer_grace,
            stop_grace=self._timing.stop_grace,
        )
        self._attend(agent, folder)
        if self._hang is not None:
            return self._hang
        if not agent.workers.pids:
            return self._never_started(agent)
        around = verdict.Surroundings(self._requests.stopped(), verdict.oom_kills() - killed_before)
        return verdict.judge(self._ends(agent, folder), around)

    def _prepare_environment(self, folder: Path) -> None:
        os.environ[ENV_MESSAGES] = str(folder)
        os.environ[ENV_LAUNCHER_PID] = str(os.getpid())
        threads = threads_per_process(self._topology.processes, usable_processors())
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))

    def _attend(self, agent: "AgentRun", folder: Path) -> None:
        """Until the agent is done, or its workers were ended: for a hang, or for a stop that took too long."""
        watch = HangWatch(folder, list(self._ranks()))
        told: float | None = None
        while not agent.done:
            self._requests.wait(LOOK_SECONDS)
            if self._requests.take_dump():
                self._dump(agent, folder)
            if self._requests.stopped() and told is None:
                told = time.monotonic()
                if not self._tell_to_stop(agent):
                    return
            if overdue := watch.look(started=bool(agent.workers.pids)):
                self._end_hang(agent, folder, watch, overdue)
                return
            if told is not None and time.monotonic() - told > self._timing.stop_grace:
                log.error("no checkpoint within %g s of the stop request; ending the workers", self._timing.stop_grace)
                self._dump(agent, folder)
                self._kill(agent)
                return

    def _tell_to_stop(self, agent: "AgentRun") -> bool:
        """Pass the request on; False when there is nobody to tell."""
        if not agent.workers.pids:
            agent.thread.join(1.0)  # it may be just about to start them
        agent.workers.signal(signal.SIGTERM)
        return bool(agent.workers.pids)

    def _kill(self, agent: "AgentRun") -> None:
        agent.workers.signal(signal.SIGKILL)
        agent.thread.join(10.0)

    def _end_hang(self, agent: "AgentRun", folder: Path, watch: HangWatch, overdue: list[Overdue]) -> None:
        """Keeps the stacks, lets the other pods of the gang find out and keep theirs, and ends the workers."""
        dumps = self._dump(agent, folder)
        self._hang = verdict.hang(overdue, watch.steps(), [dump.brief() for dump in dumps])
        log.error("%s; ending the workers", self._hang.message)
        self._requests.settle(self._timing.hang_settle)
        self._kill(agent)

    def _dump(self, agent: "AgentRun", folder: Path) -> list[Dump]:
        """Stacks of every worker that runs, into the log, one after the other."""
        running = agent.workers.running()
        pids = {rank: agent.workers.pids[local] for local, rank in enumerate(self._ranks()) if local in running}
        dumps = collect(folder, pids)
        for dump in dumps:
            log.warning("stacks of rank %d (process %d):\n%s", dump.rank, dump.pid, dump.text or dump.state)
        return dumps

    def _ranks(self) -> range:
        first = self._topology.node_rank * self._topology.processes
        return range(first, first + self._topology.processes)

    def _never_started(self, agent: "AgentRun") -> TerminationMessage:
        if self._requests.stopped():
            return verdict.preempted_early("asked to stop while waiting for the other pods")
        where = f"{self._topology.master_addr}:{self._topology.master_port}"
        error = TrainerError(
            f"the {self._topology.nodes} pods did not meet at {where} within {self._timing.rendezvous:g} s: "
            f"{type(agent.error).__name__}: {agent.error}"
        )
        return termination.message_of(error)

    def _ends(self, agent: "AgentRun", folder: Path) -> list[verdict.WorkerEnd]:
        ends = []
        for local_rank in agent.workers.pids:
            rank = self._ranks()[local_rank]
            path = message_file(folder, rank)
            ends.append(
                verdict.WorkerEnd(
                    rank=rank,
                    status=self._status(agent, rank),
                    message=termination.read(path),
                    when=path.stat().st_mtime if path.exists() else 0.0,
                    by_us=local_rank in agent.workers.killed,
                    memory=verdict.noted(memory_file(folder, rank)),
                )
            )
        return ends

    def _status(self, agent: "AgentRun", rank: int) -> int:
        if agent.error is not None:
            log.error("the elastic agent failed: %s: %s", type(agent.error).__name__, agent.error)
            return agent.failures.get(rank, -signal.SIGKILL)
        return agent.failures.get(rank, 0)
