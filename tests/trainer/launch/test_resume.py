"""Two processes, stopped in every way that a cluster knows, go on as if nothing had happened."""

import json
import random
from pathlib import Path

import pytest

from exhaustive import exhaustive
from trainer.launch.pods import Ended, Job

STEPS = 13
"""Beyond two passes over the stand-in's data, so that a resume crosses the end of an epoch."""


KILLED = ["SIGKILL"]
STOPPED = ["SIGTERM", "launcher_sigterm"]


@pytest.mark.parametrize(
    ("method", "faults"), [("lora", KILLED + STOPPED), pytest.param("full", KILLED, marks=exhaustive)]
)
def test_broken_runs_have_the_losses_of_the_unbroken_one(tmp_path: Path, method: str, faults: list[str]) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    draw = random.Random(seed)
    unbroken = Job(tmp_path / "unbroken", method, STEPS)
    broken = Job(tmp_path / "broken", method, STEPS)
    assert unbroken.run().code == 0

    for fault, between in zip(faults, [(4, 5), (6, 7), (9, 11)], strict=False):
        ended = broken.run(f"{draw.randrange(2)}:{draw.randint(*between)}:{fault}")
        assert_killed(ended) if fault == "SIGKILL" else assert_stopped(ended, broken)
    finished = broken.run()

    assert (finished.code, finished.said().outcome) == (0, "Succeeded")
    for rank in (0, 1):
        assert broken.losses(rank) == unbroken.losses(rank)
    assert weights(broken) == weights(unbroken)


def assert_killed(ended: Ended) -> None:
    assert ended.code == 1
    assert "was ended by SIGKILL" in ended.said().message


def assert_stopped(ended: Ended, job: Job) -> None:
    """It said which checkpoint it left, and left it."""
    step = ended.said().step
    assert (ended.code, ended.said().outcome) == (75, "Preempted")
    assert f"checkpoint file://{job.root}/checkpoints/step-{step:08d}" in ended.said().message
    assert f"step-{step:08d}" in job.checkpoints()


def weights(job: Job) -> dict[str, str]:
    """Digests of everything that decides how the run would go on, in its last checkpoint."""
    manifest = json.loads((job.root / "checkpoints" / f"step-{STEPS:08d}" / "manifest.json").read_text())
    return {name: entry["sha256"] for name, entry in manifest["files"].items()}
