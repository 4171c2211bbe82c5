"""Labels of examples as the classes of a model."""

import unicodedata
from typing import Any

from finetune_trainer.data.parts import Parts
from finetune_trainer.errors import DataError

CLASSIFIER_HEADS = ("classifier", "score", "pre_classifier", "pooler", "dropout", "head")
"""First parts of the names of classification heads, and of what lies between them and the encoder."""


def known_labels(parts: Parts) -> list[str]:
    """The classes of the training examples, sorted, which must be all that there are.

    Raises:
        DataError: There is but one, two look alike, or held-out data has one that training lacks.
    """
    known = sorted({str(e.label) for e in parts.train})
    _refuse_twins(known)
    if len(known) < 2:
        raise DataError(f"dataset.train: every example has the label {known[0]!r}; a classifier needs at least two")
    for part in (parts.validation, parts.test):
        for example in part:
            if example.label not in known:
                raise DataError(
                    f"{example.where}: the label {example.label!r} is in no training example, so the model "
                    f"cannot learn it; training has: {', '.join(known[:20])}"
                )
    return known


def _refuse_twins(labels: list[str]) -> None:
    """Spaces around a label, or another Unicode form of it, make two classes of what everybody reads as one."""
    seen: dict[str, str] = {}
    for label in labels:
        twin = seen.setdefault(unicodedata.normalize("NFC", label).strip(), label)
        if twin != label:
            raise DataError(
                f"dataset.train: the labels {twin!a} and {label!a} differ in spaces or Unicode form alone, so "
                "they would be two classes; write them alike"
            )


def name_classes(config: Any, labels: list[str]) -> None:
    """Gives the model's configuration its classes."""
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
