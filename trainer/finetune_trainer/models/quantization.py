"""The 4-bit or 8-bit base model of QLoRA, by bitsandbytes."""

import importlib.util
from collections.abc import Sequence
from typing import Any

import torch
from transformers import BitsAndBytesConfig

from finetune_api.method import QLora
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.loop.forward import compute_dtype
from finetune_trainer.models.load import UNUSED_FROM_PRETRAINING
from finetune_trainer.tasks.task import Task
from finetune_trainer.unquantizable import refuse_most_left

OUTPUT_HEADS = ("lm_head", "embed_out", "qa_outputs")
WRITTEN_INTO = ("feature_projection.projection",)
"""Layers of speech models into whose outputs SpecAugment writes, which autograd refuses where they are quantized."""


def quantization_of(qlora: QLora | None, precision: str, heads: Sequence[str]) -> BitsAndBytesConfig | None:
    """For every linear layer but the heads (the task's `heads`, and those that decide the output alone).

    Raises:
        ConfigurationError: bitsandbytes is not installed.
    """
    if qlora is None:
        return None
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigurationError(
            "method.qlora needs bitsandbytes, which this trainer does not have: use an image with "
            "finetune-operator[qlora], or set method.lora"
        )
    as_they_are = [*OUTPUT_HEADS, *heads, *UNUSED_FROM_PRETRAINING, *WRITTEN_INTO]
    if qlora.quantization == "Int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=as_they_are)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=qlora.double_quantization,
        bnb_4bit_compute_dtype=compute_dtype(precision),
        llm_int8_skip_modules=as_they_are,
    )


def check_quantizable(config: Any, task: Task, trust_remote_code: bool) -> None:
    """bitsandbytes knows linear layers alone: not convolutions, nor the experts of a mixture, in one tensor a layer.

    Raises:
        ConfigurationError: So much would stay as it is that quantizing gains little.
    """
    with torch.device("meta"):
        model = task.model_class.from_config(config, trust_remote_code=trust_remote_code)
    refuse_most_left(left_unquantized(model), config.model_type)


def left_unquantized(model: Any) -> float:
    """Share of the weights that bitsandbytes would leave as they are."""
    sizes = [(parameter.numel(), parameter.ndim) for parameter in model.parameters()]
    return sum(size for size, dimensions in sizes if dimensions > 2) / max(1, sum(size for size, _ in sizes))


def quantization_in(model: Any) -> BitsAndBytesConfig | None:
    """How the base of a loaded model is quantized."""
    found = getattr(model.config, "quantization_config", None)
    return found if isinstance(found, BitsAndBytesConfig) else None


def loading_options(quantization: BitsAndBytesConfig | None, device: torch.device) -> dict[str, Any]:
    """Arguments of `from_pretrained`. Weights are quantized as they are read, on the device where they stay."""
    return {"quantization_config": quantization, "device_map": {"": device}} if quantization else {}


def keep_format(model: Any) -> Any:
    """Holds quantized weights as they are read.

    On processors with AVX512-BF16, bitsandbytes packs a layer anew in its first evaluation, rounds its scales to
    bfloat16 for good, and fails on layers whose width is no multiple of 64: training would go on otherwise after an
    evaluation than before it, and a resumed run otherwise than an unbroken one.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model
