"""The checkpoint contract: what is written is whole, what is read was verified, and every rank agrees on both."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from finetune_api import manifest
from finetune_api.manifest import FileEntry, ManifestError
from finetune_storage.errors import StorageError
from finetune_trainer.checkpoint.backend import (
    BEST,
    FENCE,
    decode_pin,
    encode_fence,
    encode_pin,
    name_of,
    step_of,
)
from finetune_trainer.checkpoint.fence import check_fence
from finetune_trainer.checkpoint.lineage import Lineage, check_trainable
from finetune_trainer.checkpoint.opening import open_backend
from finetune_trainer.checkpoint.retention import Series, surplus
from finetune_trainer.checkpoint.state import read_state, saved_shapes, write_state
from finetune_trainer.errors import CheckpointError, Superseded, TrainerError
from finetune_trainer.prometheus import TrainingMetrics
from finetune_trainer.ranks import Ranks
from finetune_trainer.train_state import TrainState

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class SavedCheckpoint:
    """A checkpoint that was verified after writing."""

    step: int
    uri: str
    seconds: float
    bytes: int


@dataclass(frozen=True)
class _Outcome:
    """A value, or the error that took its place, on its way to the other ranks."""

    value: Any = None
    error: Exception | None = None

    def unwrap(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.value


class CheckpointStore:
    """The checkpoints of one job. Every rank makes one and calls the same methods in the same order.

    Args:
        uri: `pvc://`, `file://` or `s3://` folder; every rank must see the same one.
        keep: Newest sound checkpoints to keep; the best one is kept besides.
        scratch: A local folder for downloads and uploads, shared by the processes of a pod.
        attempt: Of the job. Once a newer attempt has restored, an older one can no longer save: its node may have
            been cut off from the cluster, and its pods deleted by force, while they went on training.
        series: To keep besides.
    """

    def __init__(
        self,
        uri: str,
        keep: int,
        ranks: Ranks,
        scratch: Path,
        lineage: Lineage,
        metrics: TrainingMetrics | None = None,
        attempt: int = 1,
        series: Series | None = None,
    ) -> None:
        self._backend = open_backend(uri, scratch)
        self._keep = keep
        self._ranks = ranks
        self._lineage = lineage
        self._metrics = metrics or TrainingMetrics()
        self._attempt = attempt
        self._series = series
        self._damaged: set[str] = set()
        self._best: str | None = None
        self.last: SavedCheckpoint | None = None
        """The newest one that was verified: saved or restored."""
        self.failures = 0
        """Saves in a row that did not work."""

    def save(self, state: TrainState, *, best: bool = False, final: bool = False) -> SavedCheckpoint | None:
        """Write, verify and show a checkpoint; every rank calls it between the same two steps.

        Args:
            best: Pin it, in place of the one pinned before, so that it is never pruned.
            final: There is no later chance: a failure is an error.

        Returns:
            What was saved; None when it failed, the older checkpoints are as they were and training may go on.

        Raises:
            CheckpointError: It failed and was final.
            Superseded: A newer attempt has taken over.
        """
        started = time.monotonic()
        plan = self._rank_zero(lambda: self._begin(state.step))
        try:
            name, staging = plan.unwrap()
            written = self._ranks.gather(_attempt(lambda: self._write(state, staging)))
            failed = [(rank, outcome.error) for rank, outcome in enumerate(written) if outcome.error]
            if failed:
                self._rank_zero(lambda: self._abort(name, staging))
                raise CheckpointError("; ".join(f"rank {rank}: {error}" for rank, error in failed))
            files = {path: entry for outcome in written for path, entry in outcome.value.items()}
            self._rank_zero(lambda: self._commit(state.step, name, staging, files, best)).unwrap()
        except Exception as error:
            self._save_failed(state.step, error, final)
            return None
        size = sum(entry["size"] for entry in files.values())
        saved = SavedCheckpoint(state.step, self._backend.uri(name), time.monotonic() - started, size)
        return self._save_worked(saved)

    def restore(self, shapes: Mapping[str, tuple[int, ...]]) -> TrainState | None:
        """The state of the newest sound checkpoint, or None when there is none; every rank calls it.

        Unsound ones are passed over with a line in the log. `shapes` are those of this model's trained weights. `local`
        is empty when the world size changed: what belonged to one rank then belongs to none.

        Raises:
            ConfigurationError: The checkpoint is of another model or method.
            DataError: The checkpoint is of other data.
        """
        found = self._rank_zero(self._newest_sound).unwrap()
        if found is None:
            return None
        name, body = found
        where = self._backend.uri(name)
        self._lineage.check_fingerprint(body.get("fingerprint", ""), where)
        folder = self._bring(name)
        check_trainable(saved_shapes(folder), shapes, where)
        state = read_state(folder, body["step"], self._ranks.rank)
        if body["worldSize"] != self._ranks.world_size:
            state.local = {}
        self._note_changes(body, where)
        size = sum(entry["size"] for entry in body["files"].values())
        self.last = SavedCheckpoint(state.step, where, 0.0, size)
        self._metrics.checkpoint_step.set(state.step)
        self._metrics.resumed_step.set(state.step)
        return state

    def _begin(self, step: int) -> tuple[str, str]:
        self._check_fence()
        name = name_of(step, self._backend.names(), self._attempt)
        return name, self._backend.begin(name)

    def _write(self, state: TrainState, staging: str) -> dict[str, FileEntry]:
        folder = self._backend.folder(staging)
        files = write_state(state, folder, self._ranks.rank)
        entries = {name: manifest.entry_of(folder / name) for name in files}
        self._backend.deliver(staging, files)
        return entries

    def _commit(self, step: int, name: str, staging: str, files: dict[str, FileEntry], best: bool) -> None:
        try:
            self._check_fence()
            self._backend.commit(staging, name, files, manifest.encode(files, self._extra(step)))
        except BaseException:
            self._abort(name, staging)
            raise
        self._damaged.discard(name)
        if best:
            self._best = name
            self._backend.write_record(BEST, encode_pin(name))
        self._prune(name)

    def _abort(self, name: str, staging: str) -> None:
        """Where that fails too, as when a bucket does not answer, what is left is no checkpoint to keep."""
        self._damaged.add(name)
        self._backend.abort(staging)

    def _extra(self, step: int) -> dict[str, Any]:
        return {
            "kind": "checkpoint",
            "step": step,
            "worldSize": self._ranks.world_size,
            "fingerprint": self._lineage.fingerprint,
            "hyperparameters": dict(self._lineage.hyperparameters),
            "versions": dict(self._lineage.versions),
            "createdAt": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    def _prune(self, newest: str) -> None:
        for name in surplus(self._backend.names(), self._keep, newest, self._best, self._damaged, self._series):
            try:
                self._backend.delete(name)
                self._damaged.discard(name)
            except Exception as error:  # the new checkpoint is safe; what is left over is tried again next time
                log.warning("checkpoint %s could not be deleted: %s", self._backend.uri(name), error)

    def _check_fence(self) -> None:
        check_fence(self._backend, self._attempt)

    def _take_over(self) -> None:
        self._check_fence()
        if self._attempt == 1:  # there is none before it
            return
        try:
            self._backend.write_record(FENCE, encode_fence(self._attempt))
        except (OSError, StorageError) as error:  # a full disk, which may have room again by the next save
            log.warning("older attempts could not be kept from writing checkpoints: %s", error)

    def _newest_sound(self) -> tuple[str, dict[str, Any]] | None:
        self._take_over()
        for left in self._backend.clean():
            log.info("removed the unfinished checkpoint %s", left)
        self._best = decode_pin(self._backend.read_record(BEST))
        names = self._backend.names()
        for name in names:
            try:
                body = self._sound(name)
            except ManifestError as error:
                self._damaged.add(name)
                log.warning("checkpoint %s is passed over: %s", self._backend.uri(name), error)
                continue
            log.info("resuming from checkpoint %s", self._backend.uri(name))
            return name, body
        if names:
            log.error("none of %d checkpoints is sound; the run starts from the beginning", len(names))
        return None

    def _sound(self, name: str) -> dict[str, Any]:
        _, body = self._backend.open(name)
        if body.get("step") != step_of(name) or not isinstance(body.get("worldSize"), int):
            raise ManifestError(f"{manifest.MANIFEST} is not that of a checkpoint of step {step_of(name)}")
        return body

    def _bring(self, name: str) -> Path:
        """A local folder with the checkpoint: one process of each pod fetches it, the others wait."""
        outcome = _Outcome()
        if self._ranks.local_rank == 0:
            outcome = _attempt(lambda: self._backend.open(name)[0])
        for other in self._ranks.gather(outcome if outcome.error else _Outcome()):
            other.unwrap()
        return self._backend.local(name)

    def _note_changes(self, body: Mapping[str, Any], where: str) -> None:
        if self._ranks.rank != 0:
            return
        for change in self._lineage.changed_hyperparameters(body.get("hyperparameters", {})):
            log.warning("%s: a hyper-parameter changed since: %s", where, change)
        if body["worldSize"] != self._ranks.world_size:
            log.warning(
                "%s was written by %d processes and is resumed by %d: weights, optimizer and data position go on, "
                "the random numbers of the processes start anew",
                where,
                body["worldSize"],
                self._ranks.world_size,
            )

    def _save_worked(self, saved: SavedCheckpoint) -> SavedCheckpoint:
        self.last, self.failures = saved, 0
        self._metrics.checkpoints.inc()
        self._metrics.checkpoint_step.set(saved.step)
        self._metrics.checkpoint_seconds.observe(saved.seconds)
        if self._ranks.rank == 0:
            log.info("checkpoint %s, %d bytes in %.1f s", saved.uri, saved.bytes, saved.seconds)
        return saved

    def _save_failed(self, step: int, error: Exception, final: bool) -> None:
        if isinstance(error, Superseded):
            raise error
        self.failures += 1
        self._metrics.checkpoint_failures.inc()
        kept = f"the last one is {self.last.uri}" if self.last else "there is none before it"
        text = f"the checkpoint of step {step} could not be written, {kept}: {error}"
        if final:
            raise CheckpointError(text) from error
        if self._ranks.rank == 0:
            log.error("%s; training goes on, the next save tries again (%d failed in a row)", text, self.failures)

    def _rank_zero(self, action: Callable[[], T]) -> _Outcome:
        """Do something on rank 0 alone and tell every rank how it went."""
        return self._ranks.broadcast(_attempt(action) if self._ranks.rank == 0 else _Outcome())


def _attempt(action: Callable[[], Any]) -> _Outcome:
    try:
        return _Outcome(action())
    except Exception as error:
        return _Outcome(error=_portable(error))


def _portable(error: Exception) -> Exception:
    """An error that survives the way to another process."""
    if isinstance(error, (TrainerError, StorageError)):
        return error
    return CheckpointError(f"{type(error).__name__}: {error}")
