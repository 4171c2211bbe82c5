"""Bytes that a run holds for each weight of its model, whatever its batches are. PyTorch is not needed to know."""

from dataclasses import dataclass

from finetune_api.method import Method
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
    weights, gradients, state = _whole(config)
    distributed = config.distributed
    world, zero = distributed.world_size, distributed.zero
    if zero is None:
        share = world if distributed.fsdp else 1
        return PerWeight(weights, (weights + gradients + state) / share, 0.0)
    held = weights / (world if zero.zero_stage == 3 else 1)
    summed = gradients / (world if zero.zero_stage >= 2 else 1)
    # DeepSpeed updates a second copy of what is trained, of which each rank has its part.
    updated = (state + (FLOAT32 if gradients else 0.0)) / world
    device = summed + (0.0 if zero.offload_parameters else held) + (0.0 if zero.offload_optimizer else updated)
    return PerWeight(weights, device, held + summed + updated - device)


def _whole(config: TrainerConfig) -> tuple[float, float, float]:
    """Weights, gradients and optimizer state, unsharded."""
    method, training = config.method, config.training
    if method.full is not None:
        return FLOAT32, FLOAT32, STATE_BYTES[training.optimizer]
    if method.qlora is not None:
        return QUANTIZED_BYTES[method.qlora.quantization], 0.0, 0.0
    halved = training.precision != "Float32" and rounds_frozen_weights(method)
    return FLOAT32 / 2 if halved else FLOAT32, 0.0, 0.0
