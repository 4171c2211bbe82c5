"""The launcher of a pod whose workers Ray starts: passes stops on, notices hangs, and reports once.

Ray starts workers that died again by itself. What another start would not mend ends the pod, and with it the gang: the
operator knows what to do about it.
"""

import logging
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from finetune_api.reports import TerminationMessage
from finetune_trainer import termination
from finetune_trainer.errors import TrainerError
from finetune_trainer.launch import verdict
from finetune_trainer.launch.discovery import wait_until_listening, wait_until_resolvable
from finetune_trainer.launch.hang_watch import HangWatch, Overdue
from finetune_trainer.launch.requests import Requests
from finetune_trainer.launch.stacks import Dump, collect
from finetune_trainer.launch.supervisor import LOOK_SECONDS, Timing
from finetune_trainer.launch.topology import Topology
from finetune_trainer.launch.worker import ENV_LAUNCHER_PID, ENV_MESSAGES
from finetune_trainer.processors import threads_per_process, usable_processors
from finetune_trainer.ray.child import Child
from finetune_trainer.ray.groups import DRIVER_WORDS, ENV_CONFIG, FAREWELL, STOP, Group, kill, newest
from finetune_trainer.ray.node import cluster_folder, node_command, node_environment, pod_address
from finetune_trainer.ray.outcome import beyond_ray
from finetune_trainer.stop import StopSignal

log = logging.getLogger(__name__)

END_SECONDS = 10.0


class RaySupervisor:
    """Runs one pod's part of a Ray gang to its end. Make it and call `run` in the main thread: it takes the signals."""

    def __init__(self, topology: Topology, config: Path, scratch: Path, timing: Timing, stop: StopSignal) -> None:
        self._topology = topology
        self._config = config
        self._scratch = scratch
        self._timing = timing
        self._requests = Requests(stop)
        self._told: float | None = None
        self._group: Group | None = None
        self._watch: tuple[Group, list[int], HangWatch] | None = None

    def run(self) -> TerminationMessage:
        """Wait for the head, be a node of the cluster, and judge how it ended. Never raises for what workers do."""
        self._requests.listen()
        messages = Path(tempfile.mkdtemp(prefix="launch-", dir=self._scratch))
        cluster = cluster_folder()
        try:
            return self._run_node(messages, cluster)
        finally:
            shutil.rmtree(messages, ignore_errors=True)
            shutil.rmtree(cluster, ignore_errors=True)

    def _run_node(self, messages: Path, cluster: Path) -> TerminationMessage:
        environment = self._environment(messages)
        host, port, patience = self._topology.master_addr, self._topology.master_port, self._timing.rendezvous
        driver: Child | None = None
        if not wait_until_resolvable(host, patience, self._requests.stopped, self._requests.wait):
            return verdict.preempted_early("asked to stop while waiting for pod 0")
        if self._topology.node_rank and not wait_until_listening(
            host, port, patience, self._requests.stopped, self._requests.wait
        ):
            return verdict.preempted_early("asked to stop while waiting for Ray's head in pod 0")
        command = node_command(self._topology, pod_address(), cluster)
        node = Child(command, environment, cluster / "node.log")
        try:
            if self._topology.node_rank == 0:
                driver = Child([sys.executable, "-m", "finetune_trainer.ray.driver"], environment)
            return self._attend(node, driver, messages)
        finally:
            for child in (driver, node):
                if child is not None:
                    child.end(END_SECONDS)
            kill(messages)

    def _environment(self, messages: Path) -> dict[str, str]:
        threads = threads_per_process(self._topology.processes, usable_processors())
        own = {
            ENV_MESSAGES: str(messages),
            ENV_LAUNCHER_PID: str(os.getpid()),
            ENV_CONFIG: str(self._config.absolute()),
        }
        return {"OMP_NUM_THREADS": str(threads), **node_environment(os.environ), **own}

    def _attend(self, node: Child, driver: Child | None, messages: Path) -> TerminationMessage:
        """Until there is something to say of the pod."""
        killed_before = verdict.oom_kills()
        while True:
            self._requests.wait(LOOK_SECONDS)
            group = self._newest(messages)
            if self._requests.take_dump():
                self._dump(group)
            if (hang := self._look_for_hang(group)) is not None:
                return hang
            around = verdict.Surroundings(self._requests.stopped(), verdict.oom_kills() - killed_before)
            if (said := self._pass_on_stop(group, messages, around)) is not None:
                return said
            if (said := beyond_ray(group.ends() if group else [], self._topology.processes, around)) is not None:
                return said
            if (messages / FAREWELL).exists():
                return self._gang_ended(group, around)
            if driver is not None and (status := driver.ended()) is not None:
                return self._driver_ended(status, group, messages, around)
            if (status := node.ended()) is not None:
                words = f"Ray's node in this pod ended with exit code {status}: {node.tail()}"
                return termination.message_of(TrainerError(words), self._first_rank)

    def _newest(self, messages: Path) -> Group | None:
        group = newest(messages)
        if self._group is not None and group != self._group:
            ends = ", ".join(f"rank {end.rank}: {end.said}" for end in self._group.ends(by_us=True))
            log.warning("Ray started the workers of this pod again; before, they ended so: %s", ends)
        self._group = group
        return group

    def _look_for_hang(self, group: Group | None) -> TerminationMessage | None:
        if group is None:
            return None
        at_work = group.at_work()
        if self._watch is None or self._watch[:2] != (group, list(at_work)):
            self._watch = (group, list(at_work), HangWatch(group.folder, list(at_work)))
        watch = self._watch[2]
        overdue = watch.look()
        return self._end_hang(group, watch, overdue) if overdue else None

    def _end_hang(self, group: Group, watch: HangWatch, overdue: list[Overdue]) -> TerminationMessage:
        """Keeps the stacks, and lets the other pods of the gang find out and keep theirs."""
        dumps = self._dump(group)
        hang = verdict.hang(overdue, watch.steps(), [dump.brief() for dump in dumps])
        log.error("%s; ending the workers", hang.message)
        self._requests.settle(self._timing.hang_settle)
        return hang

    def _dump(self, group: Group | None) -> list[Dump]:
        """Stacks of every worker that runs, into the log, one after the other."""
        dumps = collect(group.folder, group.at_work()) if group else []
        for dump in dumps:
            log.warning("stacks of rank %d (process %d):\n%s", dump.rank, dump.pid, dump.text or dump.state)
        return dumps

    def _pass_on_stop(
        self, group: Group | None, messages: Path, around: verdict.Surroundings
    ) -> TerminationMessage | None:
        """Tells the workers, once; what to say when none of them is at work any more, or the grace is over."""
        if not self._requests.stopped():
            return None
        if self._told is None:
            self._told = time.monotonic()
            (messages / STOP).touch()
        if group is None:
            return verdict.preempted_early("asked to stop while Ray started the workers")
        if not group.at_work():
            return verdict.judge(group.ends(), around)
        if time.monotonic() - self._told <= self._timing.stop_grace:
            return None
        log.error("no checkpoint within %g s of the stop request; ending the workers", self._timing.stop_grace)
        self._dump(group)
        return verdict.judge(group.ends(by_us=True), around)

    def _gang_ended(self, group: Group | None, around: verdict.Surroundings) -> TerminationMessage:
        """The driver has seen all workers end well."""
        ends = group.ends() if group else []
        if not ends:
            return termination.message_of(TrainerError("Ray started no worker in this pod"), self._first_rank)
        return verdict.judge(ends, around)

    def _driver_ended(
        self, status: int, group: Group | None, messages: Path, around: verdict.Surroundings
    ) -> TerminationMessage:
        if status == 0:
            return self._gang_ended(group, around)
        words = termination.read(messages / DRIVER_WORDS)
        return words or termination.message_of(TrainerError(f"Ray's driver ended with exit code {status}"))

    @property
    def _first_rank(self) -> int:
        return self._topology.node_rank * self._topology.processes
