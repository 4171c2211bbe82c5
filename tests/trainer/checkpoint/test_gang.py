"""Checkpoints of two ranks: all of it or nothing, and everybody knows which."""

import logging
from pathlib import Path
from typing import Any

import torch

from finetune_api.manifest import verify_folder
from finetune_trainer.checkpoint import CheckpointStore, Lineage
from finetune_trainer.errors import CheckpointError
from finetune_trainer.ranks import Ranks
from trainer.checkpoint.states import model, state
from trainer.gangs import gang


class Unwritable(torch.Tensor):
    """Stands for a rank that cannot write its part."""

    def detach(self) -> torch.Tensor:
        raise OSError(28, "No space left on device")


def life_of_a_job(ranks: Ranks, root: Path) -> dict[str, Any]:
    """Several saves and restores in one gang, for a process group costs seconds."""
    logging.disable()
    store = make(ranks, root)
    mine = state(1)
    mine.local = {"own": torch.tensor([ranks.rank])}
    seen: dict[str, Any] = {"first": store.save(mine) is not None}

    broken = state(2)
    if ranks.rank == 1:
        broken.local = {"own": torch.zeros(1).as_subclass(Unwritable)}
    seen["one rank could not write"] = store.save(broken)
    seen["failures"] = store.failures
    try:
        store.save(broken, final=True)
    except CheckpointError as error:
        seen["final"] = str(error)
    seen["left over"] = sorted(path.name for path in root.iterdir())

    try:
        make(ranks, root.parent / f"own-{ranks.rank}").save(state(1), final=True)
    except CheckpointError as error:
        seen["volume not shared"] = str(error)

    restored = make(ranks, root).restore(model())
    assert restored is not None
    seen["restored"] = (restored.step, int(restored.local["own"]))
    return seen


def make(ranks: Ranks, root: Path) -> CheckpointStore:
    return CheckpointStore(f"file://{root}", 2, ranks, root.parent / f"scratch-{ranks.rank}", Lineage())


def test_two_ranks_act_as_one(tmp_path: Path) -> None:
    root = tmp_path / "checkpoints"

    seen = gang(life_of_a_job, root)

    for rank, answers in enumerate(seen):
        assert answers["first"] is True
        assert answers["one rank could not write"] is None
        assert answers["failures"] == 1
        assert "rank 1: " in answers["final"]
        assert "No space left on device" in answers["final"]
        assert answers["left over"] == ["step-00000001"]
        assert "every node must mount the same volume" in answers["volume not shared"]
        assert answers["restored"] == (1, rank)
    files = verify_folder(root / "step-00000001")["files"]
    assert {"rank-00000.safetensors", "rank-00001.safetensors"} <= set(files)

    by_one = make(Ranks(), root).restore(model())
    assert by_one is not None
    assert (by_one.step, by_one.local) == (1, {})
