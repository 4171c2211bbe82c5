"""A run that is out of memory says what filled it and what to try next."""

from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.errors import OutOfMemory
from trainer.jobs import FULL, LORA, job


def config(method: dict[str, Any] = FULL, **training: Any) -> Any:
    where = Path("/nowhere")
    return job(where, where, where, method=method, **{"batchSize": 32, **training})


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
