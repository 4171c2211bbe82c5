"""A job of several subtasks on every engine, run by two processes; most micro-batches have no row of some head."""

from pathlib import Path
from typing import Any

from exhaustive import EXHAUSTIVE
from finetune_api.trainer_config import TrainerConfig
from finetune_trainer.ranks import Ranks
from trainer.jobs import job
from trainer.parallel.engine_runs import EVERY_ENGINE, run
from trainer.tasks.task_cases import CASES

METHODS: dict[str, dict[str, Any]] = {
    "full": {"full": {}},
    "lora": {"lora": {"rank": 4}},
    "ia3": {"ia3": {}},
    "qlora": {"qlora": {"rank": 4}},
    "adalora": {"adalora": {"initialRank": 4, "targetRank": 2, "allocateEverySteps": 1}},
}
SHARDED = ("full", "lora", "ia3")
EVERY_PAIR = {
    "ddp": tuple(METHODS),
    "fsdp": SHARDED,
    "zero-1": SHARDED,
    "zero-2-offload": SHARDED,
    "zero-3": SHARDED,
}
PAIRS = EVERY_PAIR if EXHAUSTIVE else {"ddp": ("full", "lora"), "fsdp": ("full",)}
RESUMED = {engine: "lora" if engine != "ddp" else "full" for engine in PAIRS if EXHAUSTIVE or engine == "ddp"}
"""The method of a run that is killed and started again."""
STEPS, KILLED, SAVED = 5, 4, 2


def job_of(root: Path, model: Path, data: Path, engine: str, method: str) -> TrainerConfig:
    """Four rows a step, one in each pass."""
    case = CASES["multi-task"]
    subtasks = [
        {
            "name": name,
            "task": one.task,
            "train": {"source": f"file://{data}/{name}.jsonl"},
            "split": {"validation": 0.1, "test": 0.1},
            **one.settings,
        }
        for name, one in case.subtasks.items()
    ]
    settings = {
        "maxSteps": STEPS,
        "batchSize": 4,
        "microBatchSize": 1,
        "learningRate": 1e-2,
        "evaluateEverySteps": 2,
        "dropout": 0.0,
    }
    config = job(
        root,
        model,
        data,
        task=case.task,
        method=METHODS[method],
        dataset={"train": None, "subtasks": subtasks},
        checkpoint={"everySteps": SAVED},
        earlyStopping=None if method == "adalora" else {"metric": "entities/loss", "patience": 5},
        **settings,
    )
    return TrainerConfig.model_validate(
        {**config.wire(), "distributed": {**EVERY_ENGINE[engine], "processesPerNode": 2}}
    )


def each_engine(ranks: Ranks, root: Path, model: Path, data: Path) -> Any:
    """Losses and metrics by (engine, method), and by engine those of a run that is killed and started again."""
    found: dict[Any, Any] = {}
    for engine, methods in PAIRS.items():
        for method in methods:
            folder = root / f"{engine}-{method}"
            found[engine, method] = run(job_of(folder, model, data, engine, method), folder, ranks)
    for engine, method in RESUMED.items():
        folder = root / f"{engine}-broken"
        config = job_of(folder, model, data, engine, method)
        found[engine] = run(config, folder, ranks, end_at=KILLED), run(config, folder, ranks)
    return found
