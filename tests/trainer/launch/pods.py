"""Pods of a gang as local processes: the launcher with its environment, and what it left behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune_api.reports import TerminationMessage

STANDIN = Path(__file__).with_name("standin.py")


@dataclass
class Job:
    """A job of the stand-in trainer in a folder of its own."""

    root: Path
    method: str = "lora"
    steps: int = 12
    every_steps: int = 3
    storage: str = ""
    hang_timeout: int | None = None
    environment: dict[str, str] = field(default_factory=dict)

    def config(self) -> Path:
        """job.json, written."""
        body: dict[str, Any] = {
            "job": {"namespace": "ml", "name": "tickets", "uid": "u-1"},
            "model": {"source": "file:///model"},
            "task": "TextClassification",
            "dataset": {"train": {"source": "file:///train.jsonl"}},
            "method": {self.method: {}},
            "training": {"maxSteps": self.steps},
            "checkpoint": {
                "storage": self.storage or f"file://{self.root}/checkpoints",
                "everySteps": self.every_steps,
            },
            "output": f"file://{self.root}/output",
            "hangTimeoutSeconds": self.hang_timeout,
        }
        path = self.root / "job.json"
        self.root.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(body))
        return path

    def start(
        self, fault: str = "", nodes: int = 1, node: int = 0, port: int = 0, processes: int = 2, **more: str
    ) -> "Pod":
        """One pod of the gang, starting."""
        where = {"PET_NNODES": str(nodes), "PET_NODE_RANK": str(node), "PET_NPROC_PER_NODE": str(processes)}
        if nodes > 1:
            where |= {"PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": str(port)}
        termination = self.root / f"termination-{node}"
        termination.unlink(missing_ok=True)
        own = {
            "FINETUNE_TERMINATION_FILE": str(termination),
            "FINETUNE_SCRATCH": str(self.root / f"scratch-{node}"),
            "FINETUNE_METRICS_PORT": "0",
            "STANDIN_LOSSES": str(self.root / "losses"),
            "STANDIN_FAULT": fault,
            "OMP_NUM_THREADS": "1",
        }
        process = subprocess.Popen(
            [sys.executable, STANDIN, "--config", self.config()],
            env={**os.environ, **own, **where, **self.environment, **more},
            stderr=subprocess.PIPE,
            text=True,
        )
        return Pod(process, termination)

    def run(self, fault: str = "", **more: Any) -> "Ended":
        """One pod, from its start to its end."""
        return self.start(fault, **more).wait()

    def losses(self, rank: int = 0) -> dict[int, str]:
        """Loss by step, bit for bit; a step that was done twice must have had the same loss twice."""
        seen: dict[int, str] = {}
        for line in (self.root / f"losses.{rank}").read_text().splitlines():
            step, value = line.split()
            assert seen.setdefault(int(step), value) == value, f"step {step} had two losses"
        return seen

    def checkpoints(self) -> list[str]:
        """Names in the checkpoint folder."""
        return sorted(path.name for path in (self.root / "checkpoints").iterdir())


@dataclass
class Pod:
    """A launcher at work."""

    process: "subprocess.Popen[str]"
    termination: Path

    def wait(self, timeout: float = 120) -> "Ended":
        """How it ended. It is killed when it does not."""
        try:
            _, log = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        message = None
        if self.termination.exists() and self.termination.read_bytes():
            message = TerminationMessage.model_validate_json(self.termination.read_bytes())
        return Ended(self.process.returncode, message, log)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def children(self) -> list[int]:
        """Process ids of the workers."""
        found = []
        for path in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            with contextlib.suppress(FileNotFoundError):
                found += [int(pid) for pid in path.read_text().split()]
        return found


@dataclass
class Ended:
    """What a pod left."""

    code: int
    message: TerminationMessage | None
    log: str

    def said(self) -> TerminationMessage:
        """Its termination message, which it must have left."""
        assert self.message is not None, self.log
        return self.message


def await_that(condition: Any, seconds: float = 60) -> None:
    """Wait until a condition holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False
