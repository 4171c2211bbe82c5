"""Jobs of every task on models in shards, run by two processes."""

from pathlib import Path
from typing import Any

from finetune_api.trainer_config import TrainerConfig
from finetune_trainer.ranks import Ranks
from trainer.in_process import run
from trainer.parallel.engine_runs import EVERY_ENGINE
from trainer.tasks.task_cases import Case
from trainer.tasks.test_every_task import job_of

STEPS = 3


def config_of(case: Case, method: str, engine: str | None, root: Path, places: tuple[Path, Path]) -> TrainerConfig:
    """A few steps without anything that each process draws for itself."""
    held_out = case.dataset.get("split", {"test": 0.2})
    settings = {"method": {method: {}}, "maxSteps": STEPS}
    config = job_of(case, root, *places, **settings, dataset={"split": held_out})
    body = config.model_dump(by_alias=True, exclude_none=True)
    if engine:
        body |= {"distributed": {**EVERY_ENGINE[engine], "processesPerNode": 2}}
    return TrainerConfig.model_validate(body)


def each_engine(
    ranks: Ranks, case: Case, method: str, engines: tuple[str, ...], root: Path, places: tuple[Path, Path]
) -> Any:
    """Losses and metrics by engine."""
    found = {}
    for engine in engines:
        folder = root / f"{engine}-{method}"
        result, losses = run(config_of(case, method, engine, folder, places), folder, ranks=ranks)
        found[engine] = losses, result.metrics
    return found
