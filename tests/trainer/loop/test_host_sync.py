"""Between two log lines nothing of ours reads a number from the device: a GPU would stand still for it."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from trainer.in_process import run
from trainer.jobs import FULL, job

BEYOND_US = "masking_utils"
"""transformers looks once a forward pass whether a mask hides anything."""


class Reads(TorchDispatchMode):
    """Where tensors become Python's own numbers: the module that asks."""

    def __init__(self) -> None:
        super().__init__()
        self.by: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            frame = sys._getframe(1)
            while Path(frame.f_code.co_filename).stem in ("_python_dispatch", "_compile", "eval_frame"):
                assert frame.f_back is not None
                frame = frame.f_back
            self.by.add(Path(frame.f_code.co_filename).stem)
        return func(*args, **(kwargs or {}))


def test_a_step_does_not_wait_for_the_device(
    tiny_bert: Path, tickets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetune_trainer.loop.train import TrainingLoop

    reads, plain = Reads(), TrainingLoop._take_step

    def watched(loop: TrainingLoop, data: Any) -> None:
        with reads:
            plain(loop, data)

    monkeypatch.setattr(TrainingLoop, "_take_step", watched)
    weights = {"sampling": {"balance": "Weights"}}
    run(
        job(tmp_path, tiny_bert, tickets, method=FULL, dataset=weights, l1=1e-5, microBatchSize=4, maxSteps=2), tmp_path
    )
    assert reads.by <= {BEYOND_US}
