"""COCO's average precision of what was found, whatever rank found it."""

from typing import Any

import numpy as np
import pytest
import torch

from finetune_trainer.data.encoded import LABEL, Encoded, Features, encode
from finetune_trainer.metrics.detections import BOXES, CROWD, SIZE, DetectionScores

LABELS = ["cat", "dog"]


def image(*objects: tuple[int, list[float]], crowd: bool = False) -> Features:
    columns = {
        LABEL: np.array([label for label, _ in objects], dtype=np.int32),
        BOXES: np.array([box for _, box in objects], dtype=np.float32).reshape(-1),
        CROWD: np.full(len(objects), crowd),
        SIZE: np.array([100, 50], dtype=np.int32),
    }
    return Features(columns, 1)


HELD_OUT = encode([image((0, [0, 0, 50, 50]), (1, [60, 10, 80, 30])), image((1, [10, 10, 30, 30])), image()])
Guess = tuple[float, int, list[float]]
RIGHT: dict[int, list[Guess]] = {
    0: [(0.9, 0, [0, 0, 0.5, 1]), (0.8, 1, [0.6, 0.2, 0.8, 0.6])],
    1: [(0.7, 1, [0.1, 0.2, 0.3, 0.6])],
    2: [],
}


def scored(guesses: dict[int, list[Guess]], held_out: Encoded = HELD_OUT, ranks: int = 1) -> Any:
    parts = [DetectionScores(LABELS, held_out) for _ in range(ranks)]
    for row, found in guesses.items():
        padded = [*found, *[(0.0, 0, [0, 0, 0, 0])] * (3 - len(found))]
        scores, classes, corners = (torch.tensor([values]) for values in zip(*padded, strict=True))
        parts[row % ranks].add((scores, classes, corners, torch.tensor(1.5)), None, np.array([row]))  # type: ignore[arg-type]
    return parts[0].result([part.share() for part in parts])


def test_everything_found_is_perfect() -> None:
    evaluation = scored(RIGHT)
    assert evaluation.metrics == pytest.approx({"mAP": 1, "mAP50": 1, "mAP75": 1, "recall": 1, "loss": 1.5})
    assert evaluation.details["classes"]["dog"] == pytest.approx({"mAP": 1, "objects": 2})


def test_a_box_counts_up_to_the_overlap_that_it_has() -> None:
    """An overlap of 0.72: right at 0.5, 0.55 … 0.7, which are 5 of 10."""
    shifted = {**RIGHT, 0: [(0.9, 0, [0, 0, 0.36, 1]), RIGHT[0][1]]}
    metrics = scored(shifted).metrics
    assert metrics["mAP50"] == pytest.approx(1)
    assert metrics["mAP75"] == pytest.approx(0.5)
    assert metrics["mAP"] == pytest.approx((0.5 + 1) / 2)


def test_a_wrong_guess_that_is_surer_than_the_right_ones_costs_precision() -> None:
    wrong = {**RIGHT, 2: [(0.95, 1, [0, 0, 0.5, 0.5])]}
    assert scored(wrong).details["classes"]["dog"]["mAP"] == pytest.approx(2 / 3, abs=0.01)
    unsure = {**RIGHT, 2: [(0.1, 1, [0, 0, 0.5, 0.5])]}
    assert scored(unsure).metrics["mAP"] == pytest.approx(1)


def test_what_is_in_a_crowd_is_neither_right_nor_wrong() -> None:
    held_out = encode([image((0, [0, 0, 50, 50]), (1, [0, 0, 10, 10])), image((0, [0, 0, 90, 50]), crowd=True)])
    guesses: dict[int, list[Guess]] = {
        0: [(0.5, 0, [0, 0, 0.5, 1]), (0.5, 1, [0, 0, 0.1, 0.2])],
        1: [(0.9, 0, [0.1, 0.1, 0.2, 0.2])],
    }
    assert scored(guesses, held_out).metrics["mAP"] == pytest.approx(1)


def test_any_number_of_ranks_gives_the_same() -> None:
    guesses = {**RIGHT, 2: [(0.75, 1, [0, 0, 0.5, 0.5])]}
    assert scored(guesses).metrics == scored(guesses, ranks=2).metrics == scored(guesses, ranks=3).metrics


def test_without_an_object_there_is_nothing_to_measure() -> None:
    evaluation = scored({0: []}, encode([image()]))
    assert evaluation.metrics == {"loss": 1.5}
    assert set(evaluation.not_computed) == {"mAP", "mAP50", "mAP75", "recall"}
