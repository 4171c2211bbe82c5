"""The last row of each group, such as a user, is held out."""

from collections import Counter

import numpy as np

from finetune_trainer.data.parts import TEST, TRAIN, VALIDATION
from finetune_trainer.data.spool import Examples
from finetune_trainer.errors import DataError

ROWS_NEEDED = 3


def leave_one_out(examples: Examples) -> np.ndarray:
    """The part of each example: of each group the last row is for the test, the one before for validation.

    A group with fewer than three rows is for training alone, and so is a row whose item would not be left in training.

    Raises:
        DataError: Nothing is held out.
    """
    left: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    last: dict[str, tuple[int, int]] = {}
    for place, example in enumerate(examples):
        group = example.group or ""
        left[example.content[1]] += 1
        sizes[group] += 1
        last[group] = (last.get(group, (-1, -1))[1], place)
    parts = np.full(len(examples), TRAIN, np.int8)
    for group, (before, newest) in last.items():
        if sizes[group] < ROWS_NEEDED:
            continue
        for part, place in ((TEST, newest), (VALIDATION, before)):
            item = examples[place].content[1]
            if left[item] > 1:
                left[item] -= 1
                parts[place] = part
    if not (parts == TEST).any():
        raise DataError(
            f"dataset.split.leaveOneOut: no user has {ROWS_NEEDED} rows, of which one can be held out; add data"
        )
    return parts
