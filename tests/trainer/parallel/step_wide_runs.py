"""Jobs whose loss is a function of the whole step."""

from pathlib import Path
from typing import Any

from finetune_api.trainer_config import TrainerConfig
from finetune_trainer.ranks import Ranks
from trainer.in_process import run
from trainer.jobs import job
from trainer.parallel.engine_runs import EVERY_ENGINE

EVERY = {name: EVERY_ENGINE[name] for name in ("ddp", "fsdp", "zero-1", "zero-3")}


def losses_of(root: Path, places: tuple[Path, Path], engine: str, ranks: Ranks, micro: int) -> dict[int, float]:
    """Of a few steps; the last batch of the epoch is a short one."""
    config = job(
        root,
        *places,
        task="PreferenceOptimization",
        method={"lora": {"rank": 4}},
        dataset={"split": {"test": 0.9, "stratifyBy": "label"}},
        preference={"loss": "KTO", "beta": 2},
        learningRate=1e-2,
        batchSize=10,
        microBatchSize=micro,
        maxSteps=4,
    )
    body = config.wire() | {"distributed": {**EVERY_ENGINE[engine], "processesPerNode": ranks.world_size}}
    return run(TrainerConfig.model_validate(body), root, ranks=ranks)[1]


def each_engine(ranks: Ranks, root: Path, places: tuple[Path, Path], engines: list[str]) -> Any:
    """Losses by engine; of the short batch a rank has one row, or none."""
    return {engine: losses_of(root / engine, places, engine, ranks, micro=1) for engine in engines}
