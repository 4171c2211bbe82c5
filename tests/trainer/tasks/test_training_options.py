"""Options that are of no task in particular, with tasks whose models or losses are unlike the others'."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from exhaustive import some_of
from finetune_trainer.models import compilation
from trainer.in_process import run
from trainer.tasks.test_every_task import EVERY_CASE, job_of

SAME: dict[str, tuple[dict[str, Any], float]] = {
    "recomputed": ({"gradientCheckpointing": True}, 1e-4),
    "compiled": ({"compile": True}, 1e-3),
    "bfloat16": ({"precision": "BFloat16"}, 0.05),
}
"""Options under which the losses stay what they are, but for so much of their size."""
OTHER: dict[str, dict[str, Any]] = {
    "muon": {"optimizer": "Muon"},
    "decay by layer": {"layerwiseLearningRateDecay": 0.5},
}
"""Options by which each step but the first begins with other weights."""
LAYERED = ("multi-task", "object-detection-yolos", "object-detection-detr", "proximal-policy")
SAME_PAIRS = {f"{task}, {option}": (task, option) for task in LAYERED for option in SAME}
del SAME_PAIRS["proximal-policy, compiled"]  # refused
SAME_PAIRS["recommendation-uses, bfloat16"] = "recommendation-uses", "bfloat16"  # which has no layers for the others
OTHER_PAIRS = {f"{task}, {option}": (task, option) for task in LAYERED for option in OTHER}
STEPS = 3


def losses(name: str, root: Path, **settings: Any) -> list[float]:
    """Of a few steps; made anew, model and data are the same."""
    case = EVERY_CASE[name]
    still = {} if case.architecture else {"dropout": 0.0}
    places = case.model(root / "model"), case.data(root / "data")
    _, found = run(job_of(case, root, *places, **still, **settings, maxSteps=STEPS), root)
    assert list(found) == list(range(1, STEPS + 1))
    return list(found.values())


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[float]]:
    """Losses without any option, by task."""
    return cache(lambda name: losses(name, tmp_path_factory.mktemp(name)))


@pytest.mark.parametrize("pair", some_of(SAME_PAIRS, ("multi-task, bfloat16",)))
def test_how_it_is_computed_does_not_change_what_is_learnt(
    pair: str, plain: Callable[[str], list[float]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compilation, "BACKEND", "aot_eager")
    name, option = SAME_PAIRS[pair]
    settings, tolerance = SAME[option]
    compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    found, expected = losses(name, tmp_path, **settings), plain(name)
    assert found == pytest.approx(expected, rel=tolerance)
    assert (found != expected) or option != "bfloat16", "it was computed in Float32"
    assert (torch._dynamo.utils.counters["stats"]["unique_graphs"] > compiled) == (option == "compiled")


@pytest.mark.parametrize("pair", some_of(OTHER_PAIRS, ()))
def test_other_steps_are_made_from_the_same_beginning(
    pair: str, plain: Callable[[str], list[float]], tmp_path: Path
) -> None:
    name, option = OTHER_PAIRS[pair]
    found, expected = losses(name, tmp_path, **OTHER[option]), plain(name)
    assert found[0] == pytest.approx(expected[0], rel=1e-6)
    assert all(abs(a - b) > 1e-4 * abs(b) for a, b in zip(found[1:], expected[1:], strict=True))
    assert found[-1] < 3 * abs(expected[-1]), "it goes astray"
