"""Frozen weights in the type that they are multiplied in: half the memory, and the same products.

Autocast rounds a matrix to bfloat16 each time that it is multiplied. One that is never trained is rounded once, as it
is read. Everything else stays in float32: what is trained, heads, norms and biases, which are small, and what flows
from layer to layer, for which embeddings give float32.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from finetune_api.method import Method
from finetune_trainer.loop.forward import compute_dtype
from finetune_trainer.memory_parts import rounds_frozen_weights
from finetune_trainer.models.layers import layer_prefixes

MULTIPLIED: tuple[type, ...] = (nn.Linear, Conv1D, nn.Conv1d, nn.Conv2d, nn.Embedding)
"""Layers whose `weight` may be held so."""
FUSED_EXPERTS = ("experts.gate_up_proj", "experts.down_proj")
"""Of a mixture, in one tensor a layer."""


@dataclass(frozen=True)
class FrozenPrecision:
    """How a job holds the weights of its base model that no adapter trains."""

    dtype: torch.dtype
    """float32: all of them as they are trained elsewhere."""
    heads: tuple[str, ...]
    """Modules, and what stands in them, that stay in float32."""

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Around `from_pretrained` in float32: each weight is rounded as it leaves the file, so that the model never
        stands in memory in float32."""
        if self.dtype == torch.float32:
            yield
            return
        original = PreTrainedModel._get_dtype_plan

        def plan(model: Any, _: torch.dtype) -> dict[str, torch.dtype]:
            return {f"^{re.escape(name)}$": self.dtype for name, _ in self._held(model)}

        # transformers has such a plan for classes of models (`_keep_in_fp32_modules`), and none for one loading.
        PreTrainedModel._get_dtype_plan = plan  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            PreTrainedModel._get_dtype_plan = original  # type: ignore[method-assign]

    def settle(self, model: Any) -> Any:
        """The same model, whose weights are held so, however they were read."""
        if self.dtype == torch.float32:
            return model
        for _, parameter in self._held(model):
            parameter.data = parameter.data.to(self.dtype)
        for module in model.modules():
            if isinstance(module, nn.Embedding) and module.weight.dtype == self.dtype:
                module.register_forward_hook(_in_float32)
        return model

    def _held(self, model: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """Tied weights come by each of their names."""
        for prefix, module in model.named_modules():
            if set(prefix.split(".")) & set(self.heads):
                continue
            for name, parameter in module.named_parameters(prefix, recurse=False):
                matrix = isinstance(module, MULTIPLIED) and name.endswith(".weight")
                expert = name.endswith(FUSED_EXPERTS) and parameter.ndim > 2
                if (matrix or expert) and parameter.is_floating_point():
                    yield name, parameter


IN_FLOAT32 = FrozenPrecision(torch.float32, ())


def frozen_precision(method: Method, precision: str, heads: tuple[str, ...]) -> FrozenPrecision:
    """Of a job."""
    held = compute_dtype(precision) if rounds_frozen_weights(method) else torch.float32
    return FrozenPrecision(held, heads)


@contextmanager
def widened(model: nn.Module) -> Iterator[None]:
    """Inside, the model computes in float32, for which one layer at a time is widened: nothing is rounded by it."""
    layers = [model.get_submodule(name) for name in layer_prefixes(model)]
    inside = {id(module) for layer in layers for module in layer.modules()}
    others = [module for module in model.modules() if id(module) not in inside and _narrow(module, recurse=False)]
    hooks = []
    for part, recurse in [*((layer, True) for layer in layers), *((other, False) for other in others)]:
        if found := _narrow(part, recurse):
            hooks += [part.register_forward_pre_hook(_widen(found)), part.register_forward_hook(_round(found))]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _narrow(module: nn.Module, recurse: bool) -> dict[nn.Parameter, torch.dtype]:
    halves = (torch.bfloat16, torch.float16)
    return {p: p.dtype for p in module.parameters(recurse) if p.dtype in halves}


def _widen(parameters: dict[nn.Parameter, torch.dtype]) -> Any:
    def hook(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        for parameter in parameters:
            parameter.data = parameter.data.float()
        return tuple(one.float() if isinstance(one, Tensor) and one.is_floating_point() else one for one in inputs)

    return hook


def _round(parameters: dict[nn.Parameter, torch.dtype]) -> Any:
    def hook(_module: nn.Module, _inputs: Any, _outputs: Any) -> None:
        for parameter, dtype in parameters.items():
            parameter.data = parameter.data.to(dtype)

    return hook


def _in_float32(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    return output.float()
