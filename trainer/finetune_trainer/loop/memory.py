"""Says of a run that ran out of memory what filled it, and what to try next."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from finetune_api.dataset import WITHOUT_LENGTH
from finetune_api.trainer_config import TrainerConfig
from finetune_trainer.errors import OutOfMemory, is_out_of_memory
from finetune_trainer.host_memory import host_memory
from finetune_trainer.memory_parts import FLOAT32, STATE_BYTES, Parts, goes_with, keeps_a_reference, of_one_process
from finetune_trainer.models.quantization import left_unquantized
from finetune_trainer.unquantizable import MOST_LEFT

GIB = 2**30
UNITS = {"AudioClassification": "milliseconds"}
MORE_MEMORY = "give each process more memory (resources, or a larger GPU)"
MOSTLY_FIXED = 0.7
"""Share of the memory from which smaller batches help little."""
LESS_DATA = (
    "raise resources.limits.memory; drop dataset.cleaning.nearDuplicates where it is set: it keeps what rows have in "
    "common; make the largest rows, images or recordings smaller, as each is held whole"
)
"""Rows lie on disk; docs/data.md tells what is kept of each."""


@dataclass
class MemoryUse:
    """Bytes that do not depend on the batch. The model is known once it is loaded."""

    config: TrainerConfig
    device: torch.device
    parts: dict[str, int] = field(default_factory=dict)
    quantizable: bool = True
    """Whether QLoRA would hold the model's weights in fewer bits."""
    note: Path | None = None
    """Where to leave what is to be said if the kernel ends this process for memory."""
    whole: int = 0
    """All weights of the model, wherever they are held."""
    trained: bool = False
    """Batches count no more: other settings help than while it trained."""

    def watched(self, model: Any) -> Any:
        """The same model, whose weights are counted."""
        weights = self.whole = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        whole = Parts(
            weights=weights,
            gradients=FLOAT32 * trained,
            optimizer=STATE_BYTES[self.config.training.optimizer] * trained,
            reference=weights if keeps_a_reference(self.config) else 0,
        )
        held, offloaded = of_one_process(whole, self.config.distributed)
        self.parts = _named(held)
        self.quantizable = left_unquantized(model) <= MOST_LEFT
        if self.note is not None:
            self.note.write_text(self._beside_gpu(offloaded) if self.device.type == "cuda" else self._on_host())
        return model

    def after_training(self) -> None:
        """From now on the model is put together and written, and what `postprocess` names is done with it."""
        self.trained = True
        if self.note is not None:
            self.note.write_text(f"the training was over, and {self._afterwards()}")

    def _afterwards(self) -> str:
        steps = "; leave out of postprocess the step that was at work" if self.config.postprocess else ""
        return (
            f"the model, whose weights are {_size(self.whole)}, was written{' and postprocessed' if steps else ''}. "
            f"The newest checkpoint has all of the training. Try next, in this order: {MORE_MEMORY}{steps}"
        )

    def _on_host(self) -> str:
        total, fixed = host_memory(), sum(self.parts.values()) * self.config.distributed.processes_per_node
        steps = next_steps(self.config, fixed > MOSTLY_FIXED * total, self.quantizable)
        steps = [*(step for step in steps if step != MORE_MEMORY), "raise resources.limits.memory"]
        return (
            f"of {_size(total)} each process held {_listed(self.parts)}, activations of {self._batch()} and all else. "
            f"Try next, in this order: {'; '.join(steps)}"
        )

    def _beside_gpu(self, offloaded: Parts) -> str:
        held = _listed(_named(offloaded)) or "no part of the model but copies for checkpoints"
        offloads = [name for name, used in _offloads(self.config) if used]
        less = "".join(f"; set distributed.deepspeed.{name} to false" for name in offloads)
        return (
            f"the model trains on the accelerator, and of {_size(host_memory())} of the host each process held {held}, "
            f"and all else. Try next, in this order: raise resources.limits.memory{less}"
        )

    def explanation(self, error: BaseException) -> str:
        """What filled the memory, and the next things to try."""
        total, used = _memory(self.device)
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if self.trained:
            filled = f"{_size(used)} of {_size(total)}"
            return f"out of memory: {filled} were in use while {self._afterwards()}. ({first[:300]})"
        rest = max(0, used - sum(self.parts.values()))
        parts = {**self.parts, f"activations of {self._batch()} and all else": rest} if self.parts else {}
        filled = _listed(parts) or "the model, while it was loaded"
        steps = next_steps(self.config, sum(self.parts.values()) > MOSTLY_FIXED * total, self.quantizable)
        return (
            f"out of memory: {_size(used)} of {_size(total)} were in use: {filled}. Try next, in this order: "
            f"{'; '.join(steps)}. ({first[:300]})"
        )

    def _batch(self) -> str:
        written = self.config.training.reinforcement
        count, kind = micro_batch(self.config), "examples"
        if written:
            count, kind = count * written.group_size, "completions"
        return f"{count} {kind} of up to {self.config.max_length} {UNITS.get(self.config.task, 'tokens')}"


def _memory(device: torch.device) -> tuple[int, int]:
    """What there is and what was used at most, in bytes."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory, torch.cuda.max_memory_allocated(device)
    return host_memory(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextmanager
def explained_preparation() -> Iterator[None]:
    """The same for what is read before there is a model.

    Raises:
        OutOfMemory: Memory ran out in here.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OutOfMemory) or not is_out_of_memory(error):
            raise
        total, used = _memory(torch.device("cpu"))
        raise OutOfMemory(
            f"out of memory: {_size(used)} of {_size(total)} were in use while the data was prepared. Try next, in "
            f"this order: {LESS_DATA}. ({str(error)[:300] or type(error).__name__})"
        ) from error


@contextmanager
def explained_memory(config: TrainerConfig, device: torch.device, note: Path | None = None) -> Iterator[MemoryUse]:
    """Turns an allocator's error into one that says what to do.

    Raises:
        OutOfMemory: Memory ran out in here.
    """
    use = MemoryUse(config, device, note=note)
    try:
        yield use
    except Exception as error:
        if isinstance(error, OutOfMemory) or not is_out_of_memory(error):
            raise
        raise OutOfMemory(use.explanation(error)) from error


def micro_batch(config: TrainerConfig) -> int:
    """Examples that a process computes together."""
    return config.training.micro_batch_size or config.training.batch_size // config.distributed.world_size


def next_steps(config: TrainerConfig, mostly_fixed: bool, quantizable: bool = True) -> list[str]:
    """What frees most for the least harm first, of what this job may be given; at most three."""
    smaller_batch, smaller_state = _for_activations(config), _for_state(config, quantizable)
    steps = [*smaller_state, *smaller_batch] if mostly_fixed else [*smaller_batch, *smaller_state]
    return [*steps, MORE_MEMORY][:3]


def _for_activations(config: TrainerConfig) -> list[str]:
    training, micro = config.training, micro_batch(config)
    steps = []
    if micro > 1:
        own = training.batch_size // config.distributed.world_size
        half = max(size for size in range(1, micro // 2 + 1) if own % size == 0)
        steps.append(f"set training.microBatchSize to {half} (it is {micro}; the result stays the same)")
    if not training.gradient_checkpointing and goes_with(config, gradient_checkpointing=True):
        steps.append("set training.gradientCheckpointing to true")
    if training.precision == "Float32":
        steps.append("set training.precision to BFloat16")
    if written := training.reinforcement:
        steps.append(f"lower training.reinforcement.groupSize (it is {written.group_size}) or maxNewTokens")
    if config.max_length > 128 and config.task not in WITHOUT_LENGTH:
        steps.append(f"lower dataset.maxLength (it is {config.max_length})")
    return steps


def _for_state(config: TrainerConfig, quantizable: bool) -> list[str]:
    steps = []
    if config.method.full:
        if config.training.optimizer != "AdamW8bit" and goes_with(config, optimizer="AdamW8bit"):
            steps.append("set training.optimizer to AdamW8bit")
        if goes_with(config, {"lora": {}}):  # which has layers, too
            steps += ["set method.full.frozenLayers", "use method.lora"]
    elif not config.method.qlora and quantizable and goes_with(config, {"qlora": {}}):
        steps.append("use method.qlora, which holds the base model in 4 bits")
    return steps


def _named(held: Parts) -> dict[str, int]:
    sizes = {
        "weights": held.weights,
        "gradients": held.gradients,
        "optimizer state": held.optimizer,
        "the model as it was": held.reference,
    }
    return {name: round(size) for name, size in sizes.items() if size}


def _listed(parts: dict[str, int]) -> str:
    return ", ".join(f"{name} {_size(count)}" for name, count in parts.items())


def _offloads(config: TrainerConfig) -> Iterator[tuple[str, bool]]:
    if zero := config.distributed.zero:
        yield "offloadOptimizer", zero.offload_optimizer
        yield "offloadParameters", zero.offload_parameters


def _size(count: int) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB / 10 else f"{count / 2**20:.0f} MiB"
