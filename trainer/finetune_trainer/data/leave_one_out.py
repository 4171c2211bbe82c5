"""The last row of each group, such as a user, is held out."""

from collections import Counter, defaultdict

from finetune_trainer.data.examples import Example
from finetune_trainer.errors import DataError

ROWS_NEEDED = 3


def leave_one_out(examples: list[Example]) -> tuple[list[Example], list[Example], list[Example]]:
    """Training, validation and test data: of each group the last row is for the test, the one before for validation.

    A group with fewer than three rows is for training alone, and so is a row whose item would not be left in training.

    Raises:
        DataError: Nothing is held out.
    """
    left = Counter(example.content[1] for example in examples)
    groups: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        groups[example.group or ""].append(example)
    chosen: dict[int, str] = {}
    for members in groups.values():
        if len(members) < ROWS_NEEDED:
            continue
        for part, example in (("test", members[-1]), ("validation", members[-2])):
            if left[example.content[1]] > 1:
                left[example.content[1]] -= 1
                chosen[id(example)] = part
    parts: dict[str, list[Example]] = {"train": [], "validation": [], "test": []}
    for example in examples:
        parts[chosen.get(id(example), "train")].append(example)
    if not parts["test"]:
        raise DataError(
            f"dataset.split.leaveOneOut: no user has {ROWS_NEEDED} rows, of which one can be held out; add data"
        )
    return parts["train"], parts["validation"], parts["test"]
