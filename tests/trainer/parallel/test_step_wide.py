"""KTO compares with a mean over the whole step: neither micro-batches nor processes change it."""

from pathlib import Path
from typing import Any

import pytest

from exhaustive import some_of
from finetune_trainer.ranks import Ranks
from trainer.gangs import gang
from trainer.parallel.step_wide_runs import EVERY, each_engine, losses_of
from trainer.tasks.task_cases import judged

pytestmark = pytest.mark.timeout(600)
ENGINES = some_of(EVERY, ("ddp",))


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> tuple[Path, Path]:
    return tiny_llama, judged(tmp_path_factory.mktemp("judged"))


@pytest.fixture(scope="module")
def whole(places: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One process, and all rows of a step at once."""
    return losses_of(tmp_path_factory.mktemp("whole"), places, "ddp", Ranks(), micro=10)


def test_micro_batches_give_the_losses_of_the_whole_batch(
    whole: Any, places: tuple[Path, Path], tmp_path: Path
) -> None:
    """Of one row even, whose own mean would say nothing."""
    assert losses_of(tmp_path, places, "ddp", Ranks(), micro=1) == pytest.approx(whole, rel=1e-4)
    assert len(set(whole.values())) == len(whole)


def test_processes_give_the_losses_of_one(whole: Any, places: tuple[Path, Path], tmp_path: Path) -> None:
    found = gang(each_engine, tmp_path, places, list(ENGINES))[0]
    for engine in ENGINES:
        assert found[engine] == pytest.approx(whole, rel=1e-4), engine
