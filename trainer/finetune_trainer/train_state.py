"""What a run must find again to go on as if it had never stopped. The loop fills it, a checkpoint keeps it."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass
class TrainState:
    """The state between two optimizer steps. No pickled objects: tensors by name, and plain JSON.

    `weights`, `optimizer` and `best_weights` are the same on every rank, so rank 0 writes them;
    `rng` belongs to one rank, so every rank writes its own. The learning rate and the data order are pure
    functions of the step, so they need no state of their own.
    """

    step: int
    weights: dict[str, Tensor]
    """Every parameter that is trained, by its name in the unwrapped model."""
    optimizer: dict[str, Tensor]
    """`PARAMETER/exp_avg`, `PARAMETER/exp_avg_sq`, `PARAMETER/step`."""
    rng: dict[str, Tensor]
    """Generator states of this rank: python, numpy, torch and, where there is one, cuda."""
    counters: dict[str, Any] = field(default_factory=dict)
    """JSON: position in the data, best metric, early stopping, loss history since the last log."""
    best_weights: dict[str, Tensor] | None = None
    """The weights of the best evaluation so far, when early stopping keeps them (rank 0 only)."""
