"""Checkpoints that are written while training goes on."""

import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune_trainer.checkpoint import CheckpointStore, Lineage
from finetune_trainer.checkpoint import background as module
from finetune_trainer.checkpoint.background import BackgroundCheckpoints, share_of_rank
from finetune_trainer.errors import CheckpointError, Superseded
from finetune_trainer.host_memory import available_memory, host_memory
from finetune_trainer.ranks import Ranks
from trainer.checkpoint.states import model, state

WAIT = 60


@dataclass(frozen=True)
class SlowRanks(Ranks):
    """One rank that agrees with itself only when it is let."""

    go: threading.Event = field(default_factory=threading.Event)
    asked: threading.Event = field(default_factory=threading.Event)

    def gather(self, value: Any) -> list[Any]:
        self.asked.set()
        assert self.go.wait(WAIT)
        return [value]


def store(root: Path, ranks: Ranks | None = None, attempt: int = 1) -> CheckpointStore:
    return CheckpointStore(
        f"file://{root}/checkpoints", 5, ranks or Ranks(), root / "scratch", Lineage(), None, attempt
    )


def test_training_goes_on_while_the_state_of_its_step_is_written(tmp_path: Path) -> None:
    ranks = SlowRanks()
    checkpoints = BackgroundCheckpoints(store(tmp_path, ranks), ranks)
    saved = state(3)

    checkpoints.save(saved)
    assert ranks.asked.wait(WAIT)
    for tensor in (*saved.weights.values(), *saved.optimizer.values(), *saved.local.values()):
        tensor.zero_()
    saved.counters["seen"] = 0
    assert checkpoints.last is None  # it is not verified yet
    ranks.go.set()
    checkpoints.wait()

    assert checkpoints.last is not None
    restored = store(tmp_path).restore(model())
    assert restored is not None
    assert torch.equal(restored.weights["layer.weight"], torch.full((8,), 3.0))
    assert torch.equal(restored.optimizer["layer.weight/exp_avg"], torch.full((8,), 1.5))
    assert restored.local["rng"].any()
    assert restored.counters == {"seen": 30}


def test_there_are_never_two_writes_at_a_time(tmp_path: Path) -> None:
    ranks = SlowRanks()
    checkpoints = BackgroundCheckpoints(store(tmp_path, ranks), ranks)
    checkpoints.save(state(1))
    assert ranks.asked.wait(WAIT)
    second = threading.Thread(target=checkpoints.save, args=(state(2),))
    second.start()
    assert [thread.name for thread in threading.enumerate()].count("checkpoint") == 1
    assert checkpoints.last is None

    ranks.go.set()
    second.join()
    checkpoints.wait()

    assert checkpoints.last is not None
    assert checkpoints.last.step == 2
    assert sorted(folder.name for folder in (tmp_path / "checkpoints").iterdir()) == ["step-00000001", "step-00000002"]


def test_the_last_one_is_whole_before_it_returns(tmp_path: Path) -> None:
    checkpoints = BackgroundCheckpoints(store(tmp_path), Ranks())
    checkpoints.save(state(1))
    checkpoints.save_now(state(2), final=True)
    assert checkpoints.last is not None
    assert checkpoints.last.step == 2


def test_a_newer_attempt_ends_the_older_one(tmp_path: Path) -> None:
    older = BackgroundCheckpoints(store(tmp_path), Ranks())
    older.save_now(state(1), final=False)
    store(tmp_path, attempt=2).restore(model())

    older.save(state(2))

    with pytest.raises(Superseded):
        older.wait()
    older.check()  # it is told once


def test_a_write_that_fails_leaves_the_training_running_until_the_final_one(tmp_path: Path) -> None:
    inner = store(tmp_path)
    checkpoints = BackgroundCheckpoints(inner, Ranks())
    (tmp_path / "checkpoints").write_text("a file where a folder belongs")

    checkpoints.save(state(1))
    checkpoints.wait()

    assert inner.failures == 1
    with pytest.raises(CheckpointError, match="step 2 could not be written"):
        checkpoints.save_now(state(2), final=True)


def test_without_memory_for_a_copy_training_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "available_memory", lambda: 0)
    checkpoints = BackgroundCheckpoints(store(tmp_path), Ranks())
    checkpoints.save(state(1))
    assert checkpoints.last is not None
    assert checkpoints.last.step == 1


def test_a_rank_copies_only_what_it_writes() -> None:
    whole = state(1)
    assert share_of_rank(whole, 0) is whole
    assert share_of_rank(whole, 1).weights == {}
    assert share_of_rank(whole, 1).local is whole.local
    whole.sharded = True
    assert share_of_rank(whole, 1) is whole


KILLED = """
import os, signal, sys
from pathlib import Path
from finetune_trainer.checkpoint.background import BackgroundCheckpoints
from trainer.checkpoint.states import state
from trainer.checkpoint.test_background import SlowRanks, store

ranks = SlowRanks()
checkpoints = BackgroundCheckpoints(store(Path(sys.argv[1]), ranks), ranks)
ranks.go.set()
checkpoints.save_now(state(1), final=False)
ranks.go.clear()
ranks.asked.clear()
checkpoints.save(state(2))
assert ranks.asked.wait(60)  # its files are there, the checkpoint is not
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_killed_while_it_writes_leaves_the_one_before(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=Path(__file__).parents[2], text=True)
    assert done.returncode == -9
    left = [folder.name for folder in (tmp_path / "checkpoints").iterdir()]
    assert any(name.startswith("tmp-step-00000002") for name in left)

    restored = store(tmp_path).restore(model())

    assert restored is not None
    assert restored.step == 1
    assert [folder.name for folder in (tmp_path / "checkpoints").iterdir()] == ["step-00000001"]


def test_the_memory_of_a_container_is_what_its_limit_leaves(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 100\ninactive_file 200000\n")
    assert (host_memory(tmp_path), available_memory(tmp_path)) == (1_000_000, 500_000)
    (tmp_path / "memory.max").write_text("max\n")
    assert 500_000 < available_memory(tmp_path) <= host_memory(tmp_path)
