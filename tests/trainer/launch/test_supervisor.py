"""What the launcher gathers of the workers of its pod."""

import signal
from pathlib import Path

from finetune_trainer.launch.agent import AgentRun, Workers
from finetune_trainer.launch.supervisor import Supervisor, Timing
from finetune_trainer.launch.topology import Topology
from finetune_trainer.launch.worker import memory_file
from finetune_trainer.stop import StopSignal


def test_what_a_killed_worker_held_comes_with_its_end(tmp_path: Path) -> None:
    topology = Topology(nodes=2, processes=1, node_rank=1, master_addr="127.0.0.1", master_port=1)
    supervisor = Supervisor(topology, [], "run", tmp_path, Timing(), StopSignal())
    memory_file(tmp_path, 1).write_text("weights 8 MiB")

    (end,) = supervisor._ends(AgentRun(Workers({0: 4711}), failures={1: -signal.SIGKILL}), tmp_path)

    assert (end.rank, end.status, end.memory) == (1, -signal.SIGKILL, "weights 8 MiB")
