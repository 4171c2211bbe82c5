"""torch.compile, layer by layer."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._dynamo.exc import TorchDynamoException

from finetune_trainer.errors import ConfigurationError
from finetune_trainer.models.layers import layer_prefixes

BACKEND = "inductor"
KINDS_OF_LAYERS = 64
"""How often one function may be compiled. Layers of transformers share theirs (GradientCheckpointingLayer's), and with
them PyTorch's 8: T5 that trains, is evaluated and writes takes 16, and what comes after 8 runs as it is, uncompiled and
without a word."""


def compile_layers(model: Any, device: torch.device) -> Any:
    """Compiles each of the model's layers in place: alike, they are compiled once, and where they call out nothing else
    is affected. Weights keep their names, which `torch.compile(model)` would put `_orig_mod.` before.

    Raises:
        ConfigurationError: There is no compiler, or there are no layers.
    """
    check_compiler(device)
    layers = layer_prefixes(model)
    if not layers:
        raise ConfigurationError("training.compile: the model has no list of layers; set it to false")
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, KINDS_OF_LAYERS)
    for name in layers:
        # Widths differ from batch to batch; without `dynamic` each would be compiled.
        model.get_submodule(name).compile(backend=BACKEND, dynamic=True)
    return model


def check_compiler(device: torch.device) -> None:
    """Asks for what the code generator needs, before it fails at the first step with a page of its own.

    Raises:
        ConfigurationError: It is not there.
    """
    compiler = os.environ.get("CXX", "g++") if device.type == "cpu" else os.environ.get("CC", "gcc")
    if shutil.which(compiler) is None:
        raise ConfigurationError(
            f"training.compile: there is no compiler ({compiler}) in the trainer's image, which PyTorch needs to build "
            "kernels; use an image with one, or set compile to false"
        )
    if device.type == "cuda":
        from torch.utils._triton import has_triton

        if not has_triton():
            raise ConfigurationError(
                "training.compile: PyTorch builds kernels for a GPU with Triton, which is not there or does not know "
                "this GPU; use an image with triton, or set compile to false"
            )


@contextmanager
def explained_compilation() -> Iterator[None]:
    """Turns a failure of the compiler into one that says what to do.

    Raises:
        ConfigurationError: The model cannot be compiled.
    """
    try:
        yield
    except TorchDynamoException as error:
        reason = " ".join(str(error).split("\n")[:2])  # the backend, and what it raised
        raise ConfigurationError(
            f"training.compile: PyTorch cannot compile this model ({reason[:300]}); set compile to false"
        ) from error
