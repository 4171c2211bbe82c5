"""Jobs of every task on models in shards, run by two processes."""

from pathlib import Path
from typing import Any

from finetune_api.trainer_config import TrainerConfig
from finetune_trainer.models.from_data import base_model
from finetune_trainer.ranks import Ranks
from finetune_trainer.run import Run
from trainer.in_process import run
from trainer.parallel.engine_runs import EVERY_ENGINE
from trainer.tasks.task_cases import Case
from trainer.tasks.test_every_task import EVERY_CASE, job_of

STEPS = 3


def config_of(case: Case, method: str, engine: str, root: Path, places: tuple[Path, Path]) -> TrainerConfig:
    """A few steps."""
    settings = {"method": {method: {}}, "maxSteps": STEPS, "dataset": {"split": {"test": 0.2}}}
    body = job_of(case, root, *places, **settings).model_dump(by_alias=True, exclude_none=True)
    return TrainerConfig.model_validate({**body, "distributed": {**EVERY_ENGINE[engine], "processesPerNode": 2}})


def each_engine(
    ranks: Ranks, name: str, method: str, engines: tuple[str, ...], root: Path, places: tuple[Path, Path]
) -> Any:
    """Losses and metrics by engine."""
    found = {}
    for engine in engines:
        folder = root / f"{engine}-{method}"
        result, losses = run(config_of(EVERY_CASE[name], method, engine, folder, places), folder, ranks=ranks)
        found[engine] = losses, result.metrics
    return found


def made_from_data(ranks: Ranks, name: str, root: Path, places: tuple[Path, Path]) -> dict[str, bytes]:
    """Files of the model that each process, on a node of its own, makes from the data in a group that is there."""
    scratch = root / f"node-{ranks.rank}"
    run_of_node = Run(scratch, ranks.rank, ranks.local_rank, ranks.world_size, local_world_size=1)
    folder = base_model(config_of(EVERY_CASE[name], "full", "ddp", root, places), run_of_node)
    return {file.name: file.read_bytes() for file in folder.iterdir()}
