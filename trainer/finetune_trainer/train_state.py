"""What a run must find again to go on as if it had never stopped. The loop fills it, a checkpoint keeps it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass
class TrainState:
    """The state between two optimizer steps. No pickled objects: tensors by name, and plain JSON.

    Tensors are whole, whatever the model is sharded over: any number of ranks can go on from them. Every rank has all
    `weights`, `optimizer` and `best_weights`, so rank 0's are kept; or each has its share, and a restored state has
    them all. `method` and `counters` are the same on every rank; `local` belongs to one rank, so every rank keeps its
    own. The learning rate and the data order are pure functions of the step and need no state.
    """

    step: int
    weights: Mapping[str, Tensor]
    """Every parameter that is trained, by its name in the unwrapped model."""
    optimizer: Mapping[str, Tensor]
    """`PARAMETER/exp_avg`, `PARAMETER/exp_avg_sq`, `PARAMETER/step`."""
    local: dict[str, Tensor]
    """Of this rank alone: generator states (python, numpy, torch, cuda) and the sum of losses since the last log."""
    counters: dict[str, Any] = field(default_factory=dict)
    """JSON: best metric, early stopping, metrics before training, tokens seen."""
    best_weights: Mapping[str, Tensor] = field(default_factory=dict)
    """The weights of the best evaluation so far, when early stopping keeps them; else empty."""
    method: dict[str, Tensor] = field(default_factory=dict)
    """What the method keeps besides weights, such as AdaLoRA's importance scores."""
    sharded: bool = False
    """Whether each rank has a share of `weights`, `optimizer` and `best_weights`."""
