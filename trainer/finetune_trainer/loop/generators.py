"""Random generators of this process: seeding, saving and restoring all of them."""

import random

import numpy as np
import torch
from torch import Tensor


def seed_everything(seed: int, rank: int = 0) -> None:
    """Different ranks draw different dropout masks, every attempt of a rank the same."""
    mixed = int(np.random.SeedSequence([seed, rank]).generate_state(1, np.uint64)[0])
    random.seed(mixed)
    np.random.seed(mixed % 2**32)
    torch.manual_seed(mixed % 2**63)


def generator_states() -> dict[str, Tensor]:
    """Python's, NumPy's, PyTorch's and, on a GPU, its generator."""
    python = random.getstate()[1]
    _, keys, position, has_gauss, gauss = np.random.get_state()
    states = {
        "rng/python": torch.tensor(python, dtype=torch.int64),
        "rng/numpy": torch.tensor(np.asarray(keys, dtype=np.int64)),
        "rng/numpy_position": torch.tensor([position, has_gauss], dtype=torch.int64),
        "rng/numpy_gauss": torch.tensor([gauss], dtype=torch.float64),
        "rng/torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        states["rng/cuda"] = torch.cuda.get_rng_state()
    return states


def restore_generators(states: dict[str, Tensor]) -> None:
    """The inverse of `generator_states`."""
    random.setstate((3, tuple(states["rng/python"].tolist()), None))
    position, has_gauss = states["rng/numpy_position"].tolist()
    keys = states["rng/numpy"].numpy().astype(np.uint32)
    gauss = float(states["rng/numpy_gauss"][0])
    np.random.set_state(("MT19937", keys, position, has_gauss, gauss))
    torch.set_rng_state(states["rng/torch"].cpu())
    if "rng/cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["rng/cuda"].cpu())
