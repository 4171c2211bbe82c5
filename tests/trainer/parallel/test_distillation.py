"""A student in shards learns from a teacher that every process holds whole."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from exhaustive import exhaustive
from finetune_api.trainer_config import TrainerConfig
from finetune_trainer.ranks import Ranks
from trainer import in_process
from trainer.gangs import gang
from trainer.jobs import FULL, job
from trainer.parallel.engine_runs import EVERY_ENGINE

ENGINES = ("ddp", "fsdp", "zero-3")


def students(ranks: Ranks, root: Path, model: Path, teacher: Path, data: Path) -> Any:
    """Losses by engine."""
    taught = {"distillation": {"teacher": f"file://{teacher}", "weight": 0.7}}
    found = {}
    for engine in ENGINES:
        folder = root / engine
        settings = {"task": "TextGeneration", "method": FULL, "maxSteps": 3, "microBatchSize": 2, **taught}
        body = job(folder, model, data, **settings).model_dump(by_alias=True, exclude_none=True)
        config = TrainerConfig.model_validate({**body, "distributed": {**EVERY_ENGINE[engine], "processesPerNode": 2}})
        found[engine] = in_process.run(config, folder, ranks=ranks)[1]
    return found


@exhaustive
def test_the_losses_are_those_of_a_whole_student(tiny_llama: Path, questions: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    teacher = shutil.copytree(tiny_llama, tmp_path / "teacher")
    wiser = AutoModelForCausalLM.from_pretrained(teacher)
    torch.nn.init.normal_(wiser.lm_head.weight)
    wiser.save_pretrained(teacher)
    found = gang(students, tmp_path, tiny_llama, teacher, questions)[0]
    assert len(found["ddp"]) == 3
    for engine in ENGINES[1:]:
        assert found[engine] == pytest.approx(found["ddp"], rel=1e-4)
