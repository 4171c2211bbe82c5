"""Short jobs of every method."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_api.trainer_config import TrainerConfig
from trainer.jobs import job

STEPS = 12


@dataclass(frozen=True)
class Case:
    """A method as a job writes it, and the learning rate that a tiny model wants."""

    method: dict[str, Any]
    learning_rate: float = 1e-2


ADALORA = {
    "initialRank": 6,
    "targetRank": 2,
    "allocateEverySteps": 2,
    "dropout": 0.1,
}
CASES = {
    "rslora": Case({"lora": {"rank": 4, "rslora": True, "dropout": 0.1}}),
    "dora": Case({"lora": {"rank": 4, "dora": True}}),
    "pissa": Case({"lora": {"rank": 4, "init": "PiSSA"}}),
    "qlora": Case({"qlora": {"rank": 4, "dropout": 0.1}}),
    "qlora-int8": Case({"qlora": {"rank": 4, "dropout": 0.1, "quantization": "Int8"}}),
    "ia3": Case({"ia3": {}}, 1e-1),
    "prompt": Case({"promptTuning": {"virtualTokens": 4}}, 1e-1),
    "p": Case({"pTuning": {"virtualTokens": 4}}),
    "p-lstm": Case({"pTuning": {"virtualTokens": 4, "encoder": "LSTM", "encoderHiddenSize": 16}}),
    "prefix": Case({"prefixTuning": {"virtualTokens": 4}}, 1e-1),
    "prefix-projected": Case({"prefixTuning": {"virtualTokens": 4, "projection": True, "encoderHiddenSize": 16}}),
    "adalora": Case({"adalora": ADALORA}, 5e-2),
}


def job_of(case: Case, root: Path, model: Path, data: Path, **settings: Any) -> TrainerConfig:
    """Checkpoints every four steps; a fifth of the data is held out."""
    settings = {"maxSteps": STEPS, "learningRate": case.learning_rate, "microBatchSize": 4, **settings}
    return job(
        root,
        model,
        data,
        method=case.method,
        dataset={"split": {"validation": 0.1, "test": 0.2}},
        checkpoint={"everySteps": 4},
        **settings,
    )
