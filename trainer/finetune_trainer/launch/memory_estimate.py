"""A rough estimate of the memory that a run needs, against what its pod and its GPUs have. It only ever warns."""

import logging
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune_api.names import ENV_MEMORY_LIMIT
from finetune_api.trainer_config import TrainerConfig
from finetune_trainer.memory_parts import goes_with, per_weight, rounds_frozen_weights

log = logging.getLogger(__name__)
MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")
ASK_GPUS = ("nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits")
"""MiB of each, a line for a GPU; NVIDIA's container toolkit brings the program. PyTorch would take seconds to load."""
ANSWER_SECONDS = 10


def gpu_memory() -> list[int]:
    """Bytes of each GPU of this pod; [] where there are none, or nobody who could tell."""
    try:
        answer = subprocess.run(ASK_GPUS, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [int(line) * 2**20 for line in answer.split("\n") if line.strip().isdigit()]


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes, without activations."""

    pod: int
    """Of the pod that has rank 0, where there are no GPUs."""
    gpu: int
    """On each GPU."""
    beside_gpus: int
    """Of that pod's own memory, where there are."""


def memory_estimate(config: TrainerConfig, weights: int) -> MemoryEstimate:
    """Of a model of so many weights, from reading it to its export, for which rank 0 has it in one piece, twice."""
    each, processes, sharded = per_weight(config), config.distributed.processes_per_node, config.distributed.shards
    others, parted = (processes - 1) * each.weights, config.distributed.shards_weights
    written = 2 * each.weights + others / (config.distributed.world_size if parted else 1)
    pod = max(processes * (each.device + each.host), written)
    read = each.weights + (0 if parted else others)
    beside = max(read, each.weights * (2 if sharded else 1), processes * each.host)
    return MemoryEstimate(*(round(weights * bytes_each) for bytes_each in (pod, each.device, beside)))


def warn_of_memory(
    config: TrainerConfig, weights: int | None, limit_file: Path | None = MEMORY_LIMIT, gpus: Sequence[int] = ()
) -> str | None:
    """What is too little; None where nothing is, or nothing is known. `gpus`: bytes of each that the pod has."""
    if weights is None:
        return None
    problems = list(_problems(config, weights, _memory_limit(limit_file), gpus))
    for problem in problems:
        log.warning("preflight: %s", problem)
    return "; ".join(problems) or None


def _problems(config: TrainerConfig, weights: int, limit: int | None, gpus: Sequence[int]) -> Iterator[str]:
    """With GPUs the pod's own memory only has to hold the model while it is read and written, and what is offloaded."""
    estimate, processes = memory_estimate(config, weights), config.distributed.processes_per_node
    what = f"{weights / 1e6:.0f} million weights with method {config.method.name} need about"
    needed = estimate.beside_gpus if gpus else estimate.pod
    if limit is not None and needed > limit:
        yield (
            f"{what} {_gib(needed)} in {processes} processes of a pod that has {_gib(limit)}; raise "
            f"resources.limits.memory, or {_smaller(config)}"
        )
    if gpus and estimate.gpu > min(gpus):
        yield (
            f"{what} {_gib(estimate.gpu)} on each GPU, of which the smallest has {_gib(min(gpus))}; shard the model "
            f"(distributed.fsdp) over more processes, or {_smaller(config)}"
        )


def _smaller(config: TrainerConfig) -> str:
    others = [name for name in ("lora", "qlora") if goes_with(config, {name: {}})]
    if config.method.full is not None:
        return f"use {' or '.join(others)}" if others else "take a smaller model"
    steps = []
    if config.training.precision == "Float32" and rounds_frozen_weights(config.method):
        steps.append("set training.precision to BFloat16")
    if config.method.qlora is None and "qlora" in others:
        steps.append("use qlora")
    return ", or ".join(steps or ["take a smaller model"])


def _gib(count: int) -> str:
    return f"{count / 2**30:.3g} GiB" if count >= 2**29 else f"{count / 2**20:.3g} MiB"


def _memory_limit(file: Path | None, environment: Mapping[str, str] = os.environ) -> int | None:
    """What the pod asked for, by the downward API, and what the kernel holds it to."""
    try:
        enforced = file.read_text().strip() if file else ""
    except OSError:  # no cgroup v2
        enforced = ""
    limits = (environment.get(ENV_MEMORY_LIMIT, ""), enforced)
    return min((int(text) for text in limits if text.isdigit() and int(text)), default=None)
