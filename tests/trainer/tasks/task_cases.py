"""One row a task: a tiny model, data, and what a served answer must be. What each must do is in test_every_task."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.jobs import FULL, NUMBERS, write_jsonl

Answer = dict[str, list[Any]]
"""Data of each output tensor."""


@dataclass(frozen=True)
class Case:
    """A task on a tiny model."""

    task: str
    model: Callable[[Path], Path]
    """Makes it in a folder."""
    data: Callable[[Path], Path]
    """Writes it in a folder."""
    metric: str
    """What training must improve,"""
    reaches: float
    """and where it must get."""
    inputs: dict[str, list[str]]
    """A request,"""
    answered: Callable[[Answer], None]
    """and what must hold for its answer."""
    method: dict[str, Any] = field(default_factory=lambda: FULL)
    dataset: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)


def encoder(folder: Path) -> Path:
    from trainer import tiny_models

    return tiny_models.bert(folder)


def tagged_numbers(folder: Path) -> Path:
    """Two numbers in a row are one entity: a parcel below six, an invoice from there."""
    rows = []
    for n in range(80):
        before, after = ["hello", "my", "please", "the"][: n % 5], ["is", "broken", "where"][: n % 4]
        low = n % 2 * 5
        numbers = [NUMBERS[low + n % 5], NUMBERS[low + n // 16]]
        kind = "INVOICE" if low else "PARCEL"
        tags = ["O"] * len(before) + [f"B-{kind}", f"I-{kind}"] + ["O"] * len(after)
        rows.append({"tokens": [*before, *numbers, *after], "tags": tags})
    return write_jsonl(folder / "train.jsonl", rows)


def finds_the_parcel(answer: Answer) -> None:
    import json

    first, second = [json.loads(row) for row in answer["entities"]]
    assert [(e["text"], e["type"], e["start"], e["end"]) for e in first] == [("two five", "PARCEL", 9, 17)]
    assert [(e["text"], e["type"]) for e in second] == [("nine six", "INVOICE")]
    assert 0.3 < first[0]["score"] <= 1


CASES = {
    "token-classification": Case(
        task="TokenClassification",
        model=encoder,
        data=tagged_numbers,
        metric="f1",
        reaches=0.8,
        inputs={"text": ["hello my two five is broken", "please nine six"]},
        answered=finds_the_parcel,
    ),
}
