"""Bytes that a run holds for each weight of its model, whatever its batches are. PyTorch is not needed to know."""

from dataclasses import dataclass
from itertools import chain
from typing import Any

from finetune_api.distributed import Distributed
from finetune_api.engine_support import unshardable
from finetune_api.method import Method
from finetune_api.method_support import unsupported
from finetune_api.trainer_config import TrainerConfig

STATE_BYTES = {"AdamW": 8.0, "AdamW8bit": 2.0, "Adafactor": 0.1, "Muon": 4.0}
"""Of an optimizer, about, for each weight that is trained."""
QUANTIZED_BYTES = {"NF4": 0.6, "Int8": 1.1}
"""With the scales."""
FLOAT32 = 4.0


def rounds_frozen_weights(method: Method) -> bool:
    """Whether BFloat16 and Float16 hold in 2 bytes what is not trained.

    PiSSA's frozen weights are what is left of the base, and have to be exact for its adapter to fit.
    """
    return method.makes_adapter and not (method.lora is not None and method.lora.init == "PiSSA")


def keeps_a_reference(config: TrainerConfig) -> bool:
    """Whether a copy of the model as it was stands beside it: where no adapter can be taken off to have it again."""
    reinforcement, lora = config.training.reinforcement, config.method.lora
    whole = not config.method.makes_adapter or (lora is not None and lora.init == "PiSSA")
    return whole and reinforcement is not None and reinforcement.beta > 0


def goes_with(config: TrainerConfig, method: dict[str, Any] | None = None, **training: Any) -> bool:
    """Whether the job could have another method, or other fields of `training`."""
    changed = config.training.model_copy(update=training)
    other = Method.model_validate(method) if method else config.method
    reasons = chain(
        unsupported(other, config.task, changed, config.distributed),
        unshardable(config.task, changed, config.distributed),
    )
    return next(reasons, None) is None


@dataclass(frozen=True)
class Parts:
    """Bytes of a run without its batches."""

    weights: float = 0.0
    gradients: float = 0.0
    """In float32."""
    optimizer: float = 0.0
    reference: float = 0.0
    """Of what `keeps_a_reference`."""

    @property
    def total(self) -> float:
        """Of all."""
        return self.weights + self.gradients + self.optimizer + self.reference


def of_one_process(whole: Parts, distributed: Distributed) -> tuple[Parts, Parts]:
    """What one process holds of them where it computes, and in host memory beside a GPU."""
    zero, world = distributed.zero, distributed.world_size
    if zero is None:
        share = world if distributed.fsdp else 1
        return Parts(whole.weights / share, whole.gradients / share, whole.optimizer / share, whole.reference), Parts()
    weights = whole.weights / (world if zero.zero_stage == 3 else 1)
    gradients = whole.gradients / (world if zero.zero_stage >= 2 else 1)
    # DeepSpeed updates a second copy of what is trained, of which each rank has its part.
    optimizer = (whole.optimizer + whole.gradients) / world
    host = Parts(weights * zero.offload_parameters, 0.0, optimizer * zero.offload_optimizer)
    return Parts(weights - host.weights, gradients, optimizer - host.optimizer), host


@dataclass(frozen=True)
class PerWeight:
    """Bytes of one process for each weight of the model: where it computes, and in host memory beside a GPU."""

    weights: float
    """Of the whole model, unsharded."""
    device: float
    """While it trains, without activations."""
    host: float


def per_weight(config: TrainerConfig) -> PerWeight:
    """Of what an adapter trains nothing is counted: it is small beside the base."""
    whole = _whole(config)
    device, host = of_one_process(whole, config.distributed)
    return PerWeight(whole.weights, device.total, host.total)


def _whole(config: TrainerConfig) -> Parts:
    """Of one weight, unsharded."""
    method, training = config.method, config.training
    reference = FLOAT32 if keeps_a_reference(config) else 0.0
    if method.full is not None:
        return Parts(FLOAT32, FLOAT32, STATE_BYTES[training.optimizer], reference)
    if method.qlora is not None:
        return Parts(QUANTIZED_BYTES[method.qlora.quantization])
    halved = training.precision != "Float32" and rounds_frozen_weights(method)
    return Parts(FLOAT32 / 2 if halved else FLOAT32, reference=reference)
