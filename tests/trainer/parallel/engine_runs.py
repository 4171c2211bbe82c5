"""Jobs on every engine, run one after another by the same two processes."""

import itertools
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from exhaustive import EXHAUSTIVE, some_of
from finetune_api.trainer_config import TrainerConfig
from finetune_trainer.ranks import Ranks
from trainer import in_process
from trainer.jobs import FULL, job
from trainer.methods.method_runs import Case

EVERY_ENGINE: dict[str, dict[str, Any]] = {
    "ddp": {"engine": "Torchrun"},
    "fsdp": {"engine": "Torchrun", "fsdp": {}},
    "zero-1": {"engine": "DeepSpeed", "deepspeed": {"zeroStage": 1}},
    "zero-2-offload": {"engine": "DeepSpeed", "deepspeed": {"zeroStage": 2, "offloadOptimizer": True}},
    "zero-3": {"engine": "DeepSpeed", "deepspeed": {"zeroStage": 3, "offloadParameters": True}},
}
ENGINES = some_of(EVERY_ENGINE, ("ddp", "fsdp", "zero-3"))
STEPS = 5
SAVED, KILLED = 2, 3
"""Steps: of the checkpoint, and at which the processes die."""
LOGGED = [1, 3, STEPS]
TRAINED: dict[str, Any] = {"method": FULL, "logEverySteps": 3}
"""Checkpoints fall between two log lines, which tell of all steps since the last one."""


def job_of(root: Path, model: Path, data: Path, engine: str, **settings: Any) -> TrainerConfig:
    """Two micro-batches a step, weight decay, a checkpoint at step 2, and early stopping, which keeps best weights."""
    settings = {
        "task": "TextGeneration",
        "maxSteps": STEPS,
        "batchSize": 12,
        "microBatchSize": 3,
        "learningRate": 1e-2,
        "weightDecay": 0.1,
        "evaluateEverySteps": 2,
        "earlyStopping": {"metric": "loss", "patience": 5},
        **settings,
    }
    config = job(root, model, data, dataset={"split": {"validation": 0.1}}, checkpoint={"everySteps": 2}, **settings)
    body = config.model_dump(by_alias=True, exclude_none=True)
    return TrainerConfig.model_validate({**body, "distributed": {**ENGINES[engine], "processesPerNode": 2}})


def run(config: TrainerConfig, root: Path, ranks: Ranks, end_at: int | None = None) -> tuple[dict[int, float], Any]:
    """Losses and metrics; every rank calls it. At step `end_at` every process loses all that it had in memory."""
    result, losses = in_process.run(config, root, end_at, ranks)
    return losses, result and result.metrics


def unbroken_and_resumed(ranks: Ranks, root: Path, model: Path, data: Path, resumed: list[str]) -> Any:
    """For each engine: losses and metrics of a run; for some, also of one that is killed and started again."""
    found = {}
    for name in ENGINES:
        unbroken, broken = root / f"{name}-unbroken", root / f"{name}-resumed"
        runs = [run(job_of(unbroken, model, data, name, **TRAINED), unbroken, ranks)]
        if name in resumed:
            config = job_of(broken, model, data, name, **TRAINED)
            runs += [run(config, broken, ranks, end_at=KILLED), run(config, broken, ranks)]
        found[name] = runs
    return found


def settings_of(method: Case) -> dict[str, Any]:
    """A few steps; AdaLoRA needs some for its ranks to fall, and so does a run that is to be killed between them."""
    steps = 6 if "adalora" in method.method else 4 if EXHAUSTIVE else 2
    return {"method": method.method, "learningRate": method.learning_rate, "maxSteps": steps, "earlyStopping": None}


def every_method(ranks: Ranks, root: Path, model: Path, data: Path, methods: dict[str, Any]) -> Any:
    """Runs by (method, engine), for whatever the support table allows; an error comes as its text.

    Losses and metrics; of shards, where everything is run, also those of a run that is killed and started again.
    """
    found: dict[tuple[str, str], Any] = {}
    for (name, method), engine in itertools.product(methods.items(), ENGINES):
        unbroken, broken = (root / f"{name}-{engine}-{kind}" for kind in ("unbroken", "broken"))
        settings = settings_of(method)
        try:
            config = job_of(broken, model, data, engine, **settings)
        except ValidationError as error:
            found[name, engine] = str(error)
            continue
        runs = [run(job_of(unbroken, model, data, engine, **settings), unbroken, ranks)]
        if EXHAUSTIVE and engine != "ddp":
            runs += [run(config, broken, ranks, end_at=KILLED), run(config, broken, ranks)]
        found[name, engine] = runs
    return found


def beside_bfloat16(ranks: Ranks, root: Path, model: Path, data: Path, engines: list[str]) -> Any:
    """Losses and metrics of LoRA in BFloat16 by engine."""
    found = {}
    for engine in engines:
        folder = root / f"bfloat16-{engine}"
        settings = {"method": {"lora": {"rank": 4}}, "precision": "BFloat16", "maxSteps": 3, "earlyStopping": None}
        found[engine] = run(job_of(folder, model, data, engine, **settings), folder, ranks)
    return found
