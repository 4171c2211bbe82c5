"""Jobs over tiny models, and processes that run them."""

import json
import multiprocessing
import os
import signal
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from finetune_api.trainer_config import TrainerConfig
from finetune_operator.cli.ports import free_port
from finetune_trainer.progress import Reporter

TICKETS = {
    "billing": ["my card was charged twice", "please refund the invoice", "billing charged my account"],
    "delivery": ["where is my parcel", "the parcel never came", "delivery of parcel never came"],
    "technical": ["app crashes in login", "password reset is broken", "cannot log in to the app"],
}
NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
LORA = {"lora": {"rank": 4, "dropout": 0.1}}
FULL: dict[str, Any] = {"full": {}}


def write_jsonl(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def job(
    root: Path,
    model: Path,
    train: Path,
    *,
    task: str = "TextClassification",
    method: dict[str, Any] | None = None,
    dataset: dict[str, Any] | None = None,
    checkpoint: dict[str, Any] | None = None,
    architecture: dict[str, Any] | None = None,
    **training: Any,
) -> TrainerConfig:
    """A job whose checkpoints and output are below `root`."""
    return TrainerConfig.model_validate(
        {
            "job": {"namespace": "ml", "name": "tiny", "uid": "1"},
            "model": {"architecture": architecture} if architecture else {"source": f"file://{model}"},
            "task": task,
            "dataset": {"train": {"source": f"file://{train}"}, "maxLength": 64, **(dataset or {})},
            "method": method or LORA,
            "training": {"batchSize": 8, "learningRate": 5e-3, "logEverySteps": 1, **training},
            "checkpoint": {"storage": f"file://{root}/checkpoints", "everySteps": 1000, **(checkpoint or {})},
            "output": f"file://{root}/output",
        }
    )


class Recorder(Reporter):
    """Stands where the progress reporter does, keeps every loss, and may end the process at a step."""

    def __init__(self, file: Path | None = None, end_at: int | None = None, by: int = signal.SIGKILL) -> None:
        super().__init__(None)
        self.file, self.end_at, self.by = file, end_at, by
        self.losses: dict[int, float] = {}
        self.stages: list[str] = []

    def update(self, **fields: Any) -> None:
        if "stage" in fields:
            self.stages.append(fields["stage"])
        if fields.get("loss") is None:
            return
        self.losses[fields["step"]] = fields["loss"]
        if self.file is not None:
            with self.file.open("a") as out:
                out.write(json.dumps([fields["step"], fields["loss"]]) + "\n")
        if fields["step"] == self.end_at:
            os.kill(os.getpid(), self.by)


@dataclass
class Gang:
    """The processes of one run."""

    processes: list[BaseProcess]
    losses_file: Path
    results: list[Path]

    def wait(self, seconds: float = 120) -> list[int | None]:
        """Exit codes by rank."""
        for process in self.processes:
            process.join(seconds)
            if process.is_alive():
                process.kill()
                process.join()
        return [process.exitcode for process in self.processes]

    @property
    def losses(self) -> dict[int, float]:
        """Loss of each step as rank 0 reported it."""
        return dict(json.loads(line) for line in self.losses_file.read_text().splitlines())

    def result(self, rank: int = 0) -> dict[str, Any]:
        """What the recipe returned."""
        return json.loads(self.results[rank].read_text())


def warm_processes() -> ForkServerContext:
    """Processes that need not import the trainer: it is imported once, in the server that they are forked from."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["finetune_trainer.recipe", "trainer.jobs"])
    return context


def start(
    config: TrainerConfig,
    root: Path,
    world_size: int,
    end_rank: int = 0,
    end_at: int | None = None,
    by: int = signal.SIGKILL,
) -> Gang:
    """Real processes that meet over gloo. `end_rank` gets the signal `by` after logging step `end_at`."""
    context = warm_processes()
    root.mkdir(parents=True, exist_ok=True)
    losses = root / f"losses-{len(list(root.glob('losses-*')))}.jsonl"
    losses.touch()
    port = free_port()
    gang = Gang([], losses, [root / f"result-{rank}.json" for rank in range(world_size)])
    for rank in range(world_size):
        arguments = (
            config.model_dump_json(by_alias=True),
            root / "scratch",
            rank,
            world_size,
            port,
            losses if rank == 0 else None,
            gang.results[rank],
            end_at if rank == end_rank else None,
            by,
        )
        process = context.Process(target=run_rank, args=arguments)
        process.start()
        gang.processes.append(process)
    return gang


def run_rank(
    config: str,
    scratch: Path,
    rank: int,
    world_size: int,
    port: int,
    losses: Path | None,
    result: Path,
    end_at: int | None,
    by: int,
) -> None:
    """One process; exits as `finetune-trainer` would."""
    import torch

    from finetune_trainer.errors import exit_code_of
    from finetune_trainer.recipe import train
    from finetune_trainer.run import Run
    from finetune_trainer.stop import StopSignal

    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    run = Run(
        scratch=scratch,
        rank=rank,
        local_rank=rank,
        world_size=world_size,
        local_world_size=world_size,
        stop=StopSignal().install(),
        reporter=Recorder(losses, end_at, by),
    )
    try:
        result.write_text(train(TrainerConfig.model_validate_json(config), run).model_dump_json())
    except BaseException as error:
        import traceback

        traceback.print_exc()
        os._exit(exit_code_of(error))
