"""A run that is out of memory says what filled it and what to try next."""

from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.errors import OutOfMemory
from trainer.jobs import FULL, LORA, job


def config(
    method: dict[str, Any] = FULL,
    distributed: dict[str, Any] | None = None,
    task: str = "TextClassification",
    **training: Any,
) -> Any:
    where = Path("/nowhere")
    body = job(where, where, where, task=task, method=method, **{"batchSize": 32, **training})
    return type(body).model_validate({**body.wire(), "distributed": distributed or {}})


def test_an_allocators_error_is_explained_with_the_models_own_numbers() -> None:
    import torch

    from finetune_trainer.loop.memory import explained_memory

    model = torch.nn.Linear(1024, 2048, bias=False)  # 8 MiB of float32

    def run_out() -> None:
        with explained_memory(config(), torch.device("cpu")) as memory:
            memory.watched(model)
            torch.empty(2**50)

    with pytest.raises(OutOfMemory) as caught:
        run_out()
    text = str(caught.value)
    assert (
        "weights 8 MiB, gradients 8 MiB, optimizer state 16 MiB, activations of 32 examples of up to 64 tokens" in text
    )
    assert "in this order: set training.microBatchSize to 16 (it is 32; the result stays the same)" in text
    assert "can't allocate memory" in text
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_what_comes_after_the_training_is_not_explained_with_its_batches(tmp_path: Path) -> None:
    import torch

    from finetune_trainer.loop.memory import explained_memory

    def run_out() -> None:
        with explained_memory(config(), torch.device("cpu"), tmp_path / "note") as memory:
            memory.watched(torch.nn.Linear(1024, 2048, bias=False))  # 8 MiB of float32
            memory.after_training()
            torch.empty(2**50)

    with pytest.raises(OutOfMemory, match="while the model, whose weights are 8 MiB, was written") as caught:
        run_out()
    for text in (str(caught.value), (tmp_path / "note").read_text()):
        assert "Try next, in this order: give each process more memory" in text
        assert "BatchSize" not in text


def test_what_is_read_before_there_is_a_model_is_explained_too() -> None:
    from finetune_trainer.loop.memory import explained_preparation

    told = r"the data was prepared\. .*resources\.limits\.memory.*nearDuplicates.*MemoryError"
    with pytest.raises(OutOfMemory, match=told), explained_preparation():
        raise MemoryError
    with pytest.raises(KeyError), explained_preparation():
        raise KeyError("x")


@pytest.mark.parametrize(
    ("device", "distributed", "told"),
    [
        ("cpu", {}, "each process held weights 8 MiB, gradients 8 MiB, optimizer state 16 MiB, activations of 32 "),
        ("cpu", {}, "set training.microBatchSize to 16 (it is 32; the result stays the same)"),
        ("cuda", {}, "no part of the model but copies for checkpoints"),
        (
            "cuda",
            {"nodes": 8, "engine": "DeepSpeed", "deepspeed": {"offloadOptimizer": True}},
            "the host each process held optimizer state 3 MiB, and all else. Try next, in this order: raise "
            "resources.limits.memory; set distributed.deepspeed.offloadOptimizer to false",
        ),
    ],
)
def test_what_the_kernel_may_kill_a_process_for_is_noted_beforehand(
    device: str, distributed: dict[str, Any], told: str, tmp_path: Path
) -> None:
    import torch

    from finetune_trainer.loop.memory import explained_memory

    with explained_memory(config(distributed=distributed), torch.device(device), tmp_path / "note") as memory:
        memory.watched(torch.nn.Linear(1024, 2048, bias=False))  # 8 MiB of float32
    text = (tmp_path / "note").read_text()
    assert told in text
    assert "raise resources.limits.memory" in text


SHARDS: dict[str, dict[str, Any]] = {
    "fsdp": {"nodes": 8, "fsdp": {}},
    "zero-2": {"nodes": 8, "engine": "DeepSpeed", "deepspeed": {"zeroStage": 2}},
    "zero-3, offload": {
        "nodes": 8,
        "engine": "DeepSpeed",
        "deepspeed": {"zeroStage": 3, "offloadOptimizer": True, "offloadParameters": True},
    },
}


@pytest.mark.parametrize(
    ("sharded", "held"),
    [
        ("fsdp", {"weights": 1, "gradients": 1, "optimizer state": 2}),
        ("zero-2", {"weights": 8, "gradients": 1, "optimizer state": 3}),  # of a second copy of the weights, too
        ("zero-3, offload", {"gradients": 1}),
    ],
)
def test_a_process_that_has_a_share_is_told_of_its_share(sharded: str, held: dict[str, int]) -> None:
    import torch

    from finetune_trainer.loop.memory import explained_memory

    with explained_memory(config(distributed=SHARDS[sharded]), torch.device("cpu")) as memory:
        memory.watched(torch.nn.Linear(1024, 2048, bias=False))  # 8 MiB of float32
    assert memory.parts == {name: size * 2**20 for name, size in held.items()}


@pytest.mark.parametrize(("beta", "method", "there"), [(0.1, FULL, True), (0, FULL, False), (0.1, LORA, False)])
def test_the_copy_that_reinforcement_compares_with_is_counted(beta: float, method: dict[str, Any], there: bool) -> None:
    import torch

    from finetune_trainer.launch.memory_estimate import memory_estimate
    from finetune_trainer.loop.memory import explained_memory

    reinforcement = {"rewards": [{"length": {"tokens": 4}}], "groupSize": 4, "maxNewTokens": 8, "beta": beta}
    rewarded = config({name: {} for name in method}, task="ReinforcementLearning", reinforcement=reinforcement)
    with explained_memory(rewarded, torch.device("cpu")) as memory:
        memory.watched(torch.nn.Linear(1024, 2048, bias=False))
    assert ("the model as it was" in memory.parts) == there
    assert "activations of 128 completions" in memory.explanation(RuntimeError("no room"))
    assert memory_estimate(rewarded, 1).gpu == (4 if method == LORA else 16) + 4 * there


def test_other_errors_pass_unchanged() -> None:
    import torch

    from finetune_trainer.loop.memory import explained_memory

    with pytest.raises(KeyError, match="x"), explained_memory(config(), torch.device("cpu")):
        raise KeyError("x")


@pytest.mark.parametrize(
    ("method", "training", "fixed", "first"),
    [
        (LORA, {"microBatchSize": 4}, False, "set training.microBatchSize to 2"),
        (LORA, {"batchSize": 3}, False, "set training.microBatchSize to 1"),
        (LORA, {"microBatchSize": 1}, False, "set training.gradientCheckpointing to true"),
        (LORA, {"microBatchSize": 1, "gradientCheckpointing": True}, False, "set training.precision to BFloat16"),
        ({"prefixTuning": {}}, {"microBatchSize": 1}, False, "set training.precision to BFloat16"),
        (LORA, {"microBatchSize": 4}, True, "use method.qlora"),
        (FULL, {}, True, "set training.optimizer to AdamW8bit"),
        (FULL, {"optimizer": "AdamW8bit"}, True, "set method.full.frozenLayers"),
    ],
)
def test_the_next_step_fits_the_job(method: dict[str, Any], training: dict[str, Any], fixed: bool, first: str) -> None:
    from finetune_trainer.loop.memory import next_steps

    steps = next_steps(config(method, **training), fixed)
    assert steps[0].startswith(first)
    assert 1 <= len(steps) <= 3


@pytest.mark.parametrize("sharded", SHARDS)
def test_nothing_is_advised_that_would_be_refused(sharded: str) -> None:
    from finetune_trainer.launch.memory_estimate import warn_of_memory
    from finetune_trainer.loop.memory import next_steps

    assert next_steps(config(distributed=SHARDS[sharded]), True)[:2] == [
        "set method.full.frozenLayers",
        "use method.lora",
    ]
    adapted = config(LORA, distributed=SHARDS[sharded])
    assert "qlora" not in " ".join(next_steps(adapted, True))
    assert "qlora" not in str(warn_of_memory(adapted, 10**12, limit_file=None, gpus=[1]))
    assert "qlora" not in " ".join(next_steps(config(LORA, compile=True), True))
    assert "qlora" not in " ".join(next_steps(config(LORA), True, quantizable=False)), "convolutions, or experts"


def test_what_reinforcement_writes_is_part_of_the_batch() -> None:
    from finetune_trainer.loop.memory import next_steps

    reinforcement = {"rewards": [{"length": {"tokens": 4}}], "groupSize": 16, "maxNewTokens": 8}
    settings = {"microBatchSize": 1, "gradientCheckpointing": True, "precision": "BFloat16"}
    rewarded = config(FULL, task="ReinforcementLearning", reinforcement=reinforcement, **settings)
    assert next_steps(rewarded, False)[0] == "lower training.reinforcement.groupSize (it is 16) or maxNewTokens"
