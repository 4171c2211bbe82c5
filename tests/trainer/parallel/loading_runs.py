"""A model loaded into shards by two ranks, each of which says what memory that took and what it then holds."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from finetune_api.dataset import Columns
from finetune_api.distributed import DeepSpeed, Fsdp
from finetune_api.method import Method
from finetune_api.training import Training
from finetune_trainer.ranks import Ranks

CPU = torch.device("cpu")
LABELS = ["a", "b", "c"]
METHOD = Method.model_validate({"lora": {"rank": 4}})


def each_engine(ranks: Ranks, folder: Path, small: Path) -> Any:
    """By engine: bytes that loading took at most, and the weights that are not those of a process on its own."""
    from finetune_trainer.parallel.zero import load_deepspeed

    load_deepspeed(CPU)
    engines = {"fsdp": by_fsdp, "zero-3": by_zero}
    for engine in engines.values():
        engine(ranks, small)  # what is imported for it is not counted
    found = {name: engine(ranks, folder) for name, engine in engines.items()}
    load, _, adapt = makers(folder)
    expected = numbers(adapt(load).model.named_parameters())
    return {
        name: (grown, [key for key, whole in expected.items() if not np.array_equal(weights.get(key), whole)])
        for name, (grown, weights) in found.items()
    }


def makers(folder: Path) -> Any:
    """What `loaded_once` needs."""
    from finetune_trainer.loop.generators import seed_everything
    from finetune_trainer.methods import apply_method
    from finetune_trainer.models.frozen_precision import IN_FLOAT32
    from finetune_trainer.models.load import load_config, load_model, made_model
    from finetune_trainer.tasks.text_classification import TextClassification

    task = TextClassification(Columns())
    tokenizer, config = task.load_processor(folder), load_config(folder, task)

    def adapt(load: Any) -> Any:
        seed_everything(7)
        return apply_method(load(), METHOD, tokenizer, 1)

    load = partial(load_model, folder, config, task, LABELS, tokenizer)
    return load, partial(made_model, config, task, LABELS, tokenizer, False, frozen=IN_FLOAT32), adapt


def by_fsdp(ranks: Ranks, folder: Path) -> Any:
    from finetune_trainer.parallel.fsdp import shard
    from finetune_trainer.parallel.loading import loaded_once

    load, empty, adapt = makers(folder)
    before = peak_from_now()
    model = loaded_once(ranks, load, empty, adapt).model
    shard(model, "Float32", Fsdp(), CPU, ranks)
    grown = status("VmHWM") - before
    return grown, numbers((name, p.full_tensor()) for name, p in model.named_parameters())


def by_zero(ranks: Ranks, folder: Path) -> Any:
    import deepspeed

    from finetune_trainer.loop.plan import StepPlan
    from finetune_trainer.parallel.loading import loaded_once
    from finetune_trainer.parallel.zero import configuration, shard_weights

    load, empty, adapt = makers(folder)
    plan = StepPlan(
        total_steps=1, steps_per_epoch=1, micro_batch_size=1, accumulation=1, world_size=2, evaluate_every=1
    )
    before = peak_from_now()
    model = loaded_once(ranks, load, empty, adapt).model
    shard_weights(model, configuration(DeepSpeed(zero_stage=3), Training(), plan), CPU, ranks, deepspeed)
    grown = status("VmHWM") - before
    with deepspeed.zero.GatheredParameters(list(model.parameters())):
        return grown, numbers(model.named_parameters())


def numbers(named: Any) -> dict[str, Any]:
    return {name: tensor.detach().numpy().copy() for name, tensor in named}


def peak_from_now() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
