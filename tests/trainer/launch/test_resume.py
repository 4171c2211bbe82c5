"""Two processes, stopped in every way that a cluster knows, go on as if nothing had happened."""

import json
import random
from pathlib import Path

import pytest

from trainer.launch.pods import Job

STEPS = 13
"""Beyond two passes over the stand-in's data, so that a resume crosses the end of an epoch."""


@pytest.mark.parametrize("method", ["lora", "full"])
def test_broken_runs_have_the_losses_of_the_unbroken_one(tmp_path: Path, method: str) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    draw = random.Random(seed)
    unbroken = Job(tmp_path / "unbroken", method, STEPS)
    broken = Job(tmp_path / "broken", method, STEPS)
    assert unbroken.run().code == 0

    killed = broken.run(f"{draw.randrange(2)}:{draw.randint(4, 5)}:SIGKILL")
    one_rank = broken.run(f"{draw.randrange(2)}:{draw.randint(6, 7)}:SIGTERM")
    launcher = broken.run(f"{draw.randrange(2)}:{draw.randint(9, 11)}:launcher_sigterm")
    finished = broken.run()

    assert killed.code == 1
    assert "was ended by SIGKILL" in killed.said().message
    for stopped in (one_rank, launcher):
        assert stopped.code == 75
        assert stopped.said().outcome == "Preempted"
        step = stopped.said().step
        assert f"checkpoint file://{broken.root}/checkpoints/step-{step:08d}" in stopped.said().message
        assert f"step-{step:08d}" in stopped.log
    assert (finished.code, finished.said().outcome) == (0, "Succeeded")
    for rank in (0, 1):
        assert broken.losses(rank) == unbroken.losses(rank)
    assert weights(broken) == weights(unbroken)


def weights(job: Job) -> dict[str, str]:
    """Digests of everything that decides how the run would go on, in its last checkpoint."""
    manifest = json.loads((job.root / "checkpoints" / f"step-{STEPS:08d}" / "manifest.json").read_text())
    return {name: entry["sha256"] for name, entry in manifest["files"].items()}
