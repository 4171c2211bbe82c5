"""The mean of the weights that a training passed through (Kaddour 2022, arXiv:2209.14981)."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from finetune_api.averaging import Average
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.methods.adaptation import Adaptation
from finetune_trainer.postprocess.passed import Passed
from finetune_trainer.postprocess.source import Source


@dataclass
class Mean:
    """Of models' floating weights, in float32."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    count: int = 0

    def add(self, model: Any) -> Self:
        """Takes up one more."""
        self.count += 1
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                before = self.tensors.setdefault(name, torch.zeros_like(tensor, dtype=torch.float32))
                before += (tensor.float() - before) / self.count
        return self

    def copy(self) -> "Mean":
        """To try what another would make of it."""
        return Mean({name: tensor.clone() for name, tensor in self.tensors.items()}, self.count)

    def put_into(self, model: Any) -> Any:
        """The model with these weights."""
        model.load_state_dict(self.tensors, strict=False)
        return model


def averaged(source: Source, passed: Passed, average: Average) -> tuple[Any, list[int]]:
    """The model with the mean of the weights, and the steps that it is the mean of.
    The host holds two models at a time, three where adapters are merged.

    Raises:
        ConfigurationError: Fewer than two checkpoints are sound.
    """
    steps: list[int] = []
    mean, model = Mean(), None
    for step, adaptation in passed.models(average):
        model = _whole(source, adaptation, passed.scratch / "averaged" / str(step))
        steps.append(step)
        mean.add(model)
    if len(steps) < 2:
        raise ConfigurationError(
            f"postprocess[0].average: of the last {average.of_checkpoints} checkpoints {len(steps)} can be read; train "
            "again with sound storage, or remove the step"
        )
    return mean.put_into(model), steps


def _whole(source: Source, adaptation: Adaptation, folder: Path) -> Any:
    """The adapter goes through its files, as it does where it is merged and served: methods finish it there."""
    if source.description.format != "Adapter":
        return adaptation.model.cpu()
    adaptation.model.eval().save_pretrained(str(folder))
    adaptation.complete_export(folder)
    return replace(source, folder=folder).merged_model()
