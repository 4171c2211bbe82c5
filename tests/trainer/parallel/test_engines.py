"""The same job gives the same losses on every engine, resumes exactly on it, and goes on elsewhere."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from finetune_trainer.ranks import Ranks
from trainer.gangs import gang
from trainer.parallel.engine_runs import (
    ENGINES,
    KILLED,
    LOGGED,
    SAVED,
    STEPS,
    TRAINED,
    job_of,
    run,
    unbroken_and_resumed,
)

pytestmark = pytest.mark.timeout(1200)  # one fixture runs every engine
TOLERANCE = 1e-4
"""Relative: engines sum in different orders."""
SHARDED = [name for name in ENGINES if name != "ddp"]
RESUMED = [name for name in ("fsdp", "zero-2-offload", "zero-3") if name in ENGINES]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(scope="module")
def alone(root: Path, tiny_llama: Path, questions: Path) -> Any:
    """Losses and metrics of one process."""
    return run(job_of(root / "alone", tiny_llama, questions, "ddp", **TRAINED), root / "alone", Ranks())


@pytest.fixture(scope="module")
def found(root: Path, tiny_llama: Path, questions: Path) -> Any:
    """What rank 0 saw of every engine."""
    return gang(unbroken_and_resumed, root, tiny_llama, questions, RESUMED)[0]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_losses_are_those_of_one_process(engine: str, alone: Any, found: Any, root: Path) -> None:
    (losses, metrics), *_ = found[engine]
    assert list(losses) == LOGGED
    assert losses == pytest.approx(alone[0], rel=TOLERANCE)
    assert metrics == pytest.approx(alone[1], rel=TOLERANCE)
    exported = load_file(root / f"{engine}-unbroken/output/model.safetensors")
    expected = load_file(root / "alone/output/model.safetensors")
    assert exported.keys() == expected.keys()
    # Adam divides by the size of gradients that may be almost zero: single weights may be a step apart.
    assert all((exported[name] - expected[name]).abs().mean() < 1e-4 for name in expected)


@pytest.mark.parametrize("engine", RESUMED)
def test_a_killed_run_goes_on_as_if_nothing_had_happened(engine: str, found: Any, root: Path) -> None:
    unbroken, killed, resumed = found[engine]
    assert (max(killed[0]), min(resumed[0])) == (KILLED, SAVED + 1)
    assert {**killed[0], **resumed[0]} == unbroken[0]
    assert resumed[1] == unbroken[1]


@pytest.mark.parametrize("engine", SHARDED)
def test_each_rank_saves_a_share(engine: str, found: Any, root: Path) -> None:
    checkpoint = root / f"{engine}-unbroken/checkpoints/step-{STEPS:08d}"
    shares = [load_file(checkpoint / name) for name in ("trainable.safetensors", "trainable-00001.safetensors")]
    assert not shares[0].keys() & shares[1].keys()
    sizes = [sum(tensor.numel() for tensor in share.values()) for share in shares]
    assert max(sizes) < 2 * min(sizes)


@pytest.mark.parametrize("engine", ["fsdp", "zero-3"])
def test_one_process_with_another_engine_goes_on_from_it(
    engine: str, alone: Any, found: Any, root: Path, tiny_llama: Path, questions: Path
) -> None:
    elsewhere = root / f"{engine}-elsewhere"
    name = f"checkpoints/step-{STEPS - 1:08d}"
    shutil.copytree(root / f"{engine}-unbroken" / name, elsewhere / name)
    losses, metrics = run(job_of(elsewhere, tiny_llama, questions, "ddp", **TRAINED), elsewhere, Ranks())
    assert list(losses) == [STEPS], "of which the first part was taken by two processes"
    assert losses == pytest.approx({step: alone[0][step] for step in losses}, rel=TOLERANCE)
    assert metrics == pytest.approx(alone[1], rel=TOLERANCE)
