"""The files of a training state: tensors as safetensors and the rest as JSON, so a checkpoint cannot run code."""

import errno
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from finetune_trainer.checkpoint.saved_tensors import SavedTensors, share_file, shares_of
from finetune_trainer.errors import CheckpointError
from finetune_trainer.train_state import TrainState

WEIGHTS = "trainable.safetensors"
OPTIMIZER = "optimizer.safetensors"
BEST_WEIGHTS = "best.safetensors"
METHOD = "method.safetensors"
COUNTERS = "counters.json"


def rank_file(rank: int) -> str:
    """Name of the file that belongs to one rank."""
    return f"rank-{rank:05d}.safetensors"


def write_state(state: TrainState, folder: Path, rank: int) -> list[str]:
    """Write this rank's own file and its share, and on rank 0 what all have in common; returns their names.

    Raises:
        CheckpointError: They could not be written; a full disk is said to be one.
    """
    files: dict[str, Mapping[str, torch.Tensor]] = {rank_file(rank): state.local}
    if rank == 0 or state.sharded:
        files |= {share_file(WEIGHTS, rank): state.weights, share_file(OPTIMIZER, rank): state.optimizer}
        if state.best_weights:
            files[share_file(BEST_WEIGHTS, rank)] = state.best_weights
    if rank == 0 and state.method:
        files[METHOD] = state.method
    try:
        for name, content in files.items():
            save_file(_separate(content), folder / name)
        if rank == 0:
            (folder / COUNTERS).write_text(json.dumps(state.counters, sort_keys=True))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(_why(error, folder)) from error
    return [*files, COUNTERS] if rank == 0 else [*files]


def read_state(folder: Path, step: int, rank: int) -> TrainState:
    """The state in a verified folder; `local` is empty when there was no such rank."""
    return TrainState(
        step=step,
        weights=SavedTensors(shares_of(folder, WEIGHTS)),
        optimizer=SavedTensors(shares_of(folder, OPTIMIZER)),
        local=_load_if_there(folder / rank_file(rank)),
        counters=json.loads((folder / COUNTERS).read_bytes()),
        best_weights=SavedTensors(shares_of(folder, BEST_WEIGHTS)),
        method=_load_if_there(folder / METHOD),
    )


def _load_if_there(file: Path) -> dict[str, torch.Tensor]:
    return load_file(file) if file.exists() else {}


def saved_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights in a verified folder; no weight is read."""
    return SavedTensors(shares_of(folder, WEIGHTS)).shapes()


def _separate(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Host copies that share no memory with each other, which safetensors cannot express."""
    seen: set[int] = set()
    apart: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        host = tensor.detach().cpu().contiguous()
        address = host.untyped_storage().data_ptr()
        apart[name] = host.clone() if address in seen else host
        seen.add(address)
    return apart


def _why(error: OSError | SafetensorError, folder: Path) -> str:
    number = error.errno if isinstance(error, OSError) else _errno_in(str(error))
    if number not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{folder}: {error}"
    free = shutil.disk_usage(folder).free // 2**20 if folder.exists() else 0
    return (
        f"{folder}: {os.strerror(number)}, {free} MiB free; enlarge the volume, delete what is not needed, or lower "
        "checkpoint.keep"
    )


def _errno_in(text: str) -> int:
    # safetensors writes in Rust, and its errors carry the number only in their text: "… (os error 28)".
    match = re.search(r"\(os error (\d+)\)", text)
    return int(match[1]) if match else 0
