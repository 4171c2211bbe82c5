"""A rough estimate of the memory that a run needs, against what its pod and its GPUs have. It only ever warns."""

import logging
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from finetune_api.names import ENV_MEMORY_LIMIT
from finetune_api.trainer_config import TrainerConfig

log = logging.getLogger(__name__)
MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")
BYTES_PER_WEIGHT = {"full": 16.0, "qlora": 0.6}
"""Full: weights, gradients and two moments of Adam in float32. QLoRA: 4 bits and their scales."""
FROZEN_BYTES_PER_WEIGHT = 4.0
"""Of every other method: the base in float32; what is trained is small beside it."""
LOADED_BYTES_PER_WEIGHT = 4.0
"""In the pod's own memory, on the way to a GPU."""
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


def memory_estimate(method: str, weights: int, processes: int) -> int:
    """Bytes for weights, gradients and optimizer states of so many processes; activations come on top."""
    return round(weights * BYTES_PER_WEIGHT.get(method, FROZEN_BYTES_PER_WEIGHT) * processes)


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
    """With GPUs the pod's own memory only has to hold the model while it is loaded."""
    method, processes = config.method.name, config.distributed.processes_per_node
    what = f"{weights / 1e6:.0f} million weights with method {method} need about"
    needed = memory_estimate(method, weights, processes)
    if gpus:
        needed = min(needed, round(weights * LOADED_BYTES_PER_WEIGHT * processes))
    if limit is not None and needed > limit:
        where = f"{processes} processes" if processes > 1 else "one process"
        yield (
            f"{what} {_gib(needed)} in {where} of a pod that has {_gib(limit)}; raise "
            "resources.limits.memory, or use lora or qlora"
        )
    shares = config.distributed.world_size if config.distributed.shards_weights else 1
    of_each = memory_estimate(method, weights, 1) // shares
    if gpus and of_each > min(gpus):
        yield (
            f"{what} {_gib(of_each)} on each GPU, of which the smallest has {_gib(min(gpus))}; shard the model "
            "(distributed.fsdp) over more processes, or use lora or qlora"
        )


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
