"""Checkpoints that are written and verified while training goes on."""

import copy
import logging
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

from torch import Tensor

from finetune_trainer.checkpoint.store import CheckpointStore, SavedCheckpoint
from finetune_trainer.host_memory import available_memory
from finetune_trainer.ranks import Ranks
from finetune_trainer.train_state import TrainState

log = logging.getLogger(__name__)

PATIENCE = 60.0
"""Seconds that a rank that has failed waits for the others to finish a checkpoint with it."""
SPARE = 2**30
"""Bytes of memory to leave for the rest of the pod when a copy of the state is made."""


class BackgroundCheckpoints:
    """One write at a time, in a thread beside the training loop. Every rank calls the same methods at the same steps.

    The store must have a group of ranks to itself: its collectives run while the loop uses other groups. A process
    that dies while it writes leaves an unfinished checkpoint, which the next attempt passes over and removes.
    """

    def __init__(self, store: CheckpointStore, ranks: Ranks) -> None:
        self._store = store
        self._ranks = ranks
        self._writer: threading.Thread | None = None
        self._error: Exception | None = None

    @property
    def last(self) -> SavedCheckpoint | None:
        """The newest one that was verified: saved or restored."""
        return self._store.last

    def restore(self, shapes: Mapping[str, tuple[int, ...]]) -> TrainState | None:
        """As the store's."""
        return self._store.restore(shapes)

    def save(self, state: TrainState) -> None:
        """Copies the state and writes the copy while the caller goes on; a write that still runs is waited for.

        Where memory has no room for a copy, the write is waited for too.
        """
        self.wait()
        own = share_of_rank(state, self._ranks.rank)
        if size_of(own) > available_memory() - SPARE:
            log.info("there is no memory for a copy of the training state: training waits for the checkpoint")
            self._store.save(own)
            return
        self._writer = threading.Thread(target=self._write, args=(copied(own),), name="checkpoint", daemon=True)
        self._writer.start()

    def save_now(self, state: TrainState, *, final: bool) -> None:
        """Writes and verifies before it returns; `final` as of the store."""
        self.wait()
        self._store.save(state, final=final)

    def wait(self) -> None:
        """Until nothing is being written.

        Raises:
            Superseded: A newer attempt has taken over.
        """
        if self._writer is not None:
            self._writer.join()
        self.check()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """After an error, what is being written is finished, unless the other ranks are gone."""
        if self._writer is not None:
            self._writer.join(PATIENCE if kind is not None and self._ranks.world_size > 1 else None)

    def check(self) -> None:
        """Tells of an error in the background, without waiting.

        Raises:
            Superseded: A newer attempt has taken over.
        """
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _write(self, state: TrainState) -> None:
        try:
            self._store.save(state)
        except Exception as error:
            self._error = error


def share_of_rank(state: TrainState, rank: int) -> TrainState:
    """Only what this rank writes; what every rank has the same of, rank 0 writes."""
    if state.sharded or rank == 0:
        return state
    return replace(state, weights={}, optimizer={}, best_weights={}, method={})


def size_of(state: TrainState) -> int:
    """Bytes of the tensors."""
    return sum(tensor.numel() * tensor.element_size() for part in _parts(state) for tensor in part.values())


def copied(state: TrainState) -> TrainState:
    """On the host, sharing nothing with the training."""
    weights, optimizer, best, local, method = (_copied(part) for part in _parts(state))
    counters: dict[str, Any] = copy.deepcopy(state.counters)
    return TrainState(state.step, weights, optimizer, local, counters, best, method, state.sharded)


def _parts(state: TrainState) -> tuple[Mapping[str, Tensor], ...]:
    return state.weights, state.optimizer, state.best_weights, state.local, state.method


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
