"""Random numbers of one example in one epoch: computed, not drawn in turn, so that a resumed run has the same."""

import numpy as np


def generator_of(seed: int, epoch: int, row: int) -> np.random.Generator:
    """Of the row at a place of the epoch's rows. The order of the rows has the stream that begins at 0."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch], counter=[0, 0, 0, row + 1]))
