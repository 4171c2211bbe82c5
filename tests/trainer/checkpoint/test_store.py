"""Checkpoints of one process, on a folder and on an object store."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune_storage import Storage, open_storage
from finetune_storage.errors import UnavailableError
from finetune_trainer.checkpoint import CheckpointStore, Lineage
from finetune_trainer.errors import CheckpointError, ConfigurationError, DataError, Superseded
from finetune_trainer.ranks import Ranks
from trainer.checkpoint.states import model, state

LINEAGE = Lineage("data-1", {"learningRate": 0.1}, {"torch": torch.__version__})


@pytest.fixture(params=["folder", "s3"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return f"file://{tmp_path}/checkpoints"
    return f"s3://{request.getfixturevalue('s3').bucket}/checkpoints"


@pytest.fixture
def store(uri: str, tmp_path: Path) -> Callable[..., CheckpointStore]:
    def make(keep: int = 2, lineage: Lineage = LINEAGE, attempt: int = 1) -> CheckpointStore:
        return CheckpointStore(uri, keep, Ranks(), tmp_path / "scratch", lineage, attempt=attempt)

    return make


@pytest.fixture
def place(uri: str) -> Storage:
    return open_storage(uri)


def test_nothing_to_restore_at_first(store: Callable[..., CheckpointStore]) -> None:
    assert store().restore(model()) is None


def test_everything_comes_back(store: Callable[..., CheckpointStore]) -> None:
    torch.manual_seed(5)
    saved = state(3)
    saved.best_weights = {"layer.weight": torch.arange(8.0)}
    made = store().save(saved)

    restored = store().restore(model())

    assert made is not None
    assert made.uri.endswith("/step-00000003")
    assert restored is not None
    assert (restored.step, restored.counters) == (3, {"seen": 30})
    assert torch.equal(restored.weights["layer.weight"], saved.weights["layer.weight"])
    assert torch.equal(restored.optimizer["layer.weight/exp_avg"], saved.optimizer["layer.weight/exp_avg"])
    assert torch.equal(restored.local["rng"], saved.local["rng"])
    assert torch.equal(restored.best_weights["layer.weight"], torch.arange(8.0))


def test_the_newest_are_kept_and_the_best(store: Callable[..., CheckpointStore], place: Storage) -> None:
    checkpoints = store(keep=2)
    for step in (1, 2, 3, 4):
        checkpoints.save(state(step), best=step == 1)

    assert place.folders() == ["step-00000001", "step-00000003", "step-00000004"]


def test_a_new_best_frees_the_old_one_also_after_a_restart(
    store: Callable[..., CheckpointStore], place: Storage
) -> None:
    first = store(keep=1)
    first.save(state(1), best=True)
    first.save(state(2))
    again = store(keep=1)
    again.restore(model())
    again.save(state(3))
    assert place.folders() == ["step-00000001", "step-00000003"]

    again.save(state(4), best=True)

    assert place.folders() == ["step-00000004"]


def test_saving_a_step_again_leaves_the_first_until_the_second_is_whole(
    store: Callable[..., CheckpointStore], place: Storage
) -> None:
    checkpoints = store(keep=1)
    checkpoints.save(state(3))
    second = state(3)
    second.counters = {"seen": 99}

    checkpoints.save(second)

    assert place.folders() == ["step-00000003-2"]
    restored = store().restore(model())
    assert restored is not None
    assert (restored.step, restored.counters) == (3, {"seen": 99})


def cut(place: Storage, name: str) -> None:
    rewrite(place, name, place.read(name)[:-7])


def flip(place: Storage, name: str) -> None:
    data = bytearray(place.read(name))
    data[-1] ^= 1
    rewrite(place, name, bytes(data))


def rewrite(place: Storage, name: str, data: bytes) -> None:
    if hasattr(place, "put"):
        place.put(data, name)
    else:
        place.path(name).write_bytes(data)  # type: ignore[attr-defined]


def remove(place: Storage, name: str) -> None:
    place.delete(name)


DAMAGE: dict[str, tuple[Callable[[Storage, str], None], str, str]] = {
    "truncated weights": (cut, "trainable.safetensors", "trainable.safetensors has 105 bytes, expected 112"),
    "truncated optimizer": (cut, "optimizer.safetensors", "optimizer.safetensors has"),
    "one flipped bit": (flip, "optimizer.safetensors", "optimizer.safetensors has the right size but another content"),
    "missing optimizer": (remove, "optimizer.safetensors", "optimizer.safetensors is missing"),
    "missing random state": (remove, "rank-00000.safetensors", "rank-00000.safetensors is missing"),
    "missing counters": (remove, "counters.json", "counters.json is missing"),
    "half a manifest": (cut, "manifest.json", "manifest.json is not JSON"),
}


@pytest.mark.parametrize(
    ("uri", "case"),
    [*(("folder", case) for case in DAMAGE), ("s3", "truncated weights"), ("s3", "missing counters")],
    indirect=["uri"],
)
def test_a_damaged_newest_is_passed_over(
    store: Callable[..., CheckpointStore], place: Storage, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    damage, file, message = DAMAGE[case]
    checkpoints = store()
    checkpoints.save(state(1))
    checkpoints.save(state(2))
    damage(place, f"step-00000002/{file}")

    reader = store()
    with caplog.at_level(logging.INFO):
        restored = reader.restore(model())

    assert restored is not None
    assert restored.step == 1
    assert f"step-00000002 is passed over: {message}" in caplog.text
    assert reader.last is not None, "what was read back is verified"
    assert (reader.last.step, reader.last.uri.endswith("/step-00000001")) == (1, True)


def test_a_checkpoint_without_its_manifest_never_happened(
    store: Callable[..., CheckpointStore], place: Storage
) -> None:
    checkpoints = store()
    checkpoints.save(state(1))
    checkpoints.save(state(2))
    remove(place, "step-00000002/manifest.json")

    restored = store().restore(model())

    assert restored is not None
    assert restored.step == 1


def test_the_last_sound_one_outlives_the_damaged_ones(store: Callable[..., CheckpointStore], place: Storage) -> None:
    checkpoints = store(keep=3)
    for step in (1, 2, 3):
        checkpoints.save(state(step))
    for step in (2, 3):
        cut(place, f"step-{step:08d}/trainable.safetensors")

    again = store(keep=2)
    again.restore(model())
    again.save(state(4))

    assert place.folders() == ["step-00000001", "step-00000004"]


def test_when_none_is_sound_the_run_starts_anew_and_says_so(
    store: Callable[..., CheckpointStore], place: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    store().save(state(1))
    cut(place, "step-00000001/trainable.safetensors")

    assert store().restore(model()) is None
    assert "none of 1 checkpoints is sound" in caplog.text


def test_another_models_weights_are_refused_by_name(store: Callable[..., CheckpointStore]) -> None:
    store().save(state(1))

    with pytest.raises(ConfigurationError) as error:
        store().restore({"layer.weight": (9,), "layer.bias": (1,)})

    assert "layer.bias is missing" in str(error.value)
    assert "layer.weight has shape [8], expected [9]" in str(error.value)
    assert "keep model and method as they were" in str(error.value)


def test_other_data_is_refused(store: Callable[..., CheckpointStore]) -> None:
    store().save(state(1))

    with pytest.raises(DataError, match="the training data changed since"):
        store(lineage=Lineage("data-2")).restore(model())


def test_changed_hyperparameters_are_noticed(
    store: Callable[..., CheckpointStore], caplog: pytest.LogCaptureFixture
) -> None:
    store().save(state(1))

    store(lineage=Lineage("data-1", {"learningRate": 0.5, "epochs": 2})).restore(model())

    assert "a hyper-parameter changed since: learningRate: 0.1 → 0.5" in caplog.text
    assert "epochs: None → 2" in caplog.text


def test_another_world_size_keeps_the_shared_state_and_drops_each_ranks_own(
    store: Callable[..., CheckpointStore], uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store().save(state(1))
    body = b'"worldSize":1'
    place = open_storage(uri)
    rewrite(
        place, "step-00000001/manifest.json", place.read("step-00000001/manifest.json").replace(body, body[:-1] + b"4")
    )

    restored = store().restore(model())

    assert restored is not None
    assert restored.local == {}
    assert torch.equal(restored.weights["layer.weight"], state(1).weights["layer.weight"])
    assert "was written by 4 processes and is resumed by 1" in caplog.text


def test_what_unfinished_saves_left_is_removed(tmp_path: Path) -> None:
    root = tmp_path / "checkpoints"
    (root / "tmp-step-00000001-abc").mkdir(parents=True)
    (root / "step-00000002").mkdir()
    checkpoints = CheckpointStore(f"file://{root}", 2, Ranks(), tmp_path / "scratch", LINEAGE)

    assert checkpoints.restore(model()) is None
    assert sorted(path.name for path in root.iterdir()) == ["step-00000002"]


def test_a_folder_that_cannot_be_made_fails_the_save_and_not_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "checkpoints"
    checkpoints = CheckpointStore(f"file://{root}", 2, Ranks(), tmp_path / "scratch", LINEAGE)
    checkpoints.save(state(1))
    shutil.move(root, tmp_path / "moved")
    root.write_text("a file is in the way")

    assert checkpoints.save(state(2)) is None
    assert checkpoints.failures == 1
    assert "the checkpoint of step 2 could not be written, the last one is" in caplog.text
    with pytest.raises(CheckpointError, match="the checkpoint of step 3 could not be written"):
        checkpoints.save(state(3), final=True)

    root.unlink()
    shutil.move(tmp_path / "moved", root)
    assert checkpoints.save(state(4)) is not None
    assert checkpoints.failures == 0


def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"checkpoint.storage: hf://a/b cannot be written; use s3"):
        CheckpointStore("hf://a/b", 2, Ranks(), tmp_path, LINEAGE)


def test_an_attempt_that_was_replaced_can_no_longer_save(store: Callable[..., CheckpointStore], place: Storage) -> None:
    first = store(attempt=1)
    first.restore(model())
    first.save(state(1))
    second = store(attempt=2)
    assert second.restore(model()) is not None

    with pytest.raises(Superseded, match="attempt 2 of the job has taken over"):
        first.save(state(2))
    with pytest.raises(Superseded):
        store(attempt=1).restore(model())
    assert place.folders() == ["step-00000001"]

    second.save(state(2))
    assert place.folders() == ["step-00000001", "step-00000002-2"]


def test_a_takeover_during_a_save_keeps_it_from_being_shown(
    store: Callable[..., CheckpointStore], place: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = store(attempt=1), store(attempt=2)
    write = first._write

    def overtaken(*arguments: Any) -> Any:
        written = write(*arguments)
        second._take_over()
        return written

    monkeypatch.setattr(first, "_write", overtaken)
    with pytest.raises(Superseded):
        first.save(state(1))
    assert store(attempt=2).restore(model()) is None
    assert place.folders() == []


@pytest.mark.parametrize("uri", ["s3"], indirect=True)
def test_an_attempt_that_was_cut_off_clears_away_nothing_of_the_next(
    store: Callable[..., CheckpointStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = store(attempt=1), store(attempt=2)
    write = first._write

    def overtaken(*arguments: Any) -> Any:
        second.restore(model())
        second.save(state(1))
        return write(*arguments)

    monkeypatch.setattr(first, "_write", overtaken)
    with pytest.raises(Superseded):
        first.save(state(1))

    restored = store(attempt=3).restore(model())
    assert restored is not None
    assert restored.step == 1


@pytest.mark.parametrize("uri", ["s3"], indirect=True)
def test_what_a_failed_save_leaves_in_a_bucket_takes_the_place_of_no_sound_one(
    store: Callable[..., CheckpointStore], place: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the bucket stops answering in the middle of a save: then nothing can be cleared away either."""
    checkpoints = store(keep=2)
    for step in (1, 2):
        checkpoints.save(state(step))

    def silent(*_: Any) -> None:
        raise UnavailableError("the S3 endpoint cannot be used")

    with monkeypatch.context() as outage:
        outage.setattr(checkpoints._backend, "commit", silent)
        outage.setattr(checkpoints._backend, "abort", silent)
        assert checkpoints.save(state(3)) is None
    assert place.folders() == ["step-00000001", "step-00000002", "step-00000003"]

    checkpoints.save(state(4))
    assert place.folders() == ["step-00000002", "step-00000004"]
    checkpoints.save(state(3))
    assert place.folders() == ["step-00000003", "step-00000004"]
