"""A volume that fills up while a checkpoint is written: a real one, of one MiB."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, logging, os, subprocess, sys
from pathlib import Path

volume = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(volume)], check=True)
from finetune_trainer.checkpoint import CheckpointStore, Lineage
from finetune_trainer.errors import CheckpointError
from finetune_trainer.ranks import Ranks
from trainer.checkpoint.states import model, state

SIZE = 40_000
store = CheckpointStore(f"file://{volume}/job", 5, Ranks(), volume.parent / "scratch", Lineage())
seen = {"worked": [], "failed": []}
for step in range(1, 6):
    saved = store.save(state(step, SIZE))
    seen["worked" if saved else "failed"].append(step)
seen["failures in a row"] = store.failures
seen["folders when full"] = sorted(os.listdir(volume / "job"))
try:
    store.save(state(6, SIZE), final=True)
except CheckpointError as error:
    seen["final"] = str(error)
again = CheckpointStore(f"file://{volume}/job", 5, Ranks(), volume.parent / "scratch", Lineage())
seen["restored"] = again.restore(model(SIZE)).step
subprocess.run(["rm", "-r", str(volume / "job" / "step-00000001")], check=True)
seen["after making room"] = again.save(state(7, SIZE)).step
print(json.dumps(seen))
"""


@pytest.mark.skipif(
    subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode != 0,
    reason="needs unprivileged user namespaces to mount a small volume",
)
def test_old_checkpoints_survive_and_the_next_save_tries_again(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()

    done = subprocess.run(
        ["unshare", "-rm", sys.executable, "-c", PROGRAM, str(tmp_path / "volume")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )

    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["worked"] == [1, 2, 3]
    assert seen["failed"] == [4, 5]
    assert seen["failures in a row"] == 2
    assert seen["folders when full"] == ["step-00000001", "step-00000002", "step-00000003"]
    assert "No space left on device, 0 MiB free; enlarge the volume" in seen["final"]
    assert "the last one is file://" in seen["final"]
    assert seen["restored"] == 3
    assert seen["after making room"] == 7
    assert "training goes on, the next save tries again (2 failed in a row)" in done.stderr
