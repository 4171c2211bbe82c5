"""Ranks whose rows are of different subtasks never wait for each other, and learn what one process learns."""

from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.ranks import Ranks
from trainer.gangs import gang
from trainer.parallel.engine_runs import run
from trainer.parallel.multi_task_runs import KILLED, PAIRS, RESUMED, SAVED, STEPS, each_engine, job_of
from trainer.tasks.task_cases import three_tasks

pytestmark = pytest.mark.timeout(1200)  # one fixture runs every pair
TOLERANCE = 1e-4
"""Relative: engines sum in different orders."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("multi-task")


@pytest.fixture(scope="module")
def data(root: Path) -> Path:
    return three_tasks(root / "data")


@pytest.fixture(scope="module")
def alone(root: Path, tiny_bert: Path, data: Path) -> Any:
    """Losses and metrics of one process, by method."""
    return {
        method: run(
            job_of(root / f"alone-{method}", tiny_bert, data, "ddp", method),
            root / f"alone-{method}",
            Ranks(),
        )
        for method in PAIRS["ddp"]
    }


@pytest.fixture(scope="module")
def found(root: Path, tiny_bert: Path, data: Path) -> Any:
    answers = gang(each_engine, root, tiny_bert, data)
    assert isinstance(answers[0], dict), answers[0]
    return answers[0]


@pytest.mark.parametrize(("engine", "method"), [(e, m) for e, methods in PAIRS.items() for m in methods])
def test_the_losses_are_those_of_one_process(engine: str, method: str, alone: Any, found: Any) -> None:
    losses, metrics = found[engine, method]
    assert list(losses) == list(range(1, STEPS + 1))
    assert losses == pytest.approx(alone[method][0], rel=TOLERANCE)
    assert metrics == pytest.approx(alone[method][1], rel=1e-3)


@pytest.mark.parametrize("engine", RESUMED)
def test_a_killed_run_goes_on_as_if_nothing_had_happened(engine: str, found: Any) -> None:
    (before, _), (after, metrics) = found[engine]
    assert (max(before), min(after)) == (KILLED, KILLED - (KILLED % SAVED or SAVED) + 1)
    assert ({**before, **after}, metrics) == found[engine, RESUMED[engine]]
