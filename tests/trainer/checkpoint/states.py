"""Small training states."""

import torch

from finetune_trainer.train_state import TrainState


def state(step: int, size: int = 8) -> TrainState:
    """A state whose every tensor tells its step."""
    return TrainState(
        step=step,
        weights={"layer.weight": torch.full((size,), float(step))},
        optimizer={"layer.weight/exp_avg": torch.full((size,), step / 2)},
        local={"rng": torch.get_rng_state()},
        counters={"seen": step * 10},
    )


def model(size: int = 8) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights that the states are of."""
    return {"layer.weight": (size,)}
