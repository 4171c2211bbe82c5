"""PiSSA (Meng et al. 2024, arXiv:2404.02948): the adapter starts as the principal part of each layer.

What it starts with is taken out of the frozen weights, so adapter and weights only fit each other. Two things follow.
A checkpoint holds the starting matrices: a singular value decomposition on another machine gives others, and the
frozen weights must be those that the saved adapter belongs to. And the artifact holds the change alone, as plain LoRA
of twice the rank, so that it fits the base model as published.
"""

import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from finetune_trainer.methods.adaptation import Adaptation
from finetune_trainer.ranks import Ranks

ADAPTER = "default"
WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


class PissaAdaptation(Adaptation):
    """Keeps the matrices that the adapter started with."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self._layers = {name: m for name, m in model.named_modules() if hasattr(m, "lora_A") and ADAPTER in m.lora_A}
        self._initial = {
            f"{name}.{part}": getattr(layer, part)[ADAPTER].weight.detach().cpu().clone()
            for name, layer in self._layers.items()
            for part in ("lora_A", "lora_B")
        }

    def state(self) -> dict[str, Tensor]:
        return dict(self._initial)

    def agree(self, ranks: Ranks) -> None:
        """All take the weights of rank 0, which belong to what it began with."""
        self._initial = ranks.broadcast(self._initial)

    def restore(self, saved: dict[str, Tensor]) -> None:
        if all(torch.equal(saved[name], own) for name, own in self._initial.items()):
            return
        for name, layer in self._layers.items():
            own, theirs = _product(self._initial, name), _product(saved, name)
            difference = layer.scaling[ADAPTER] * (own - theirs)
            _add(layer.get_base_layer().weight, difference.T if layer.fan_in_fan_out else difference)
        self._initial = {name: tensor.clone() for name, tensor in saved.items()}

    def complete_export(self, folder: Path) -> None:
        """s·(B A - B₀ A₀) = s·[B, -B₀] [A; A₀]."""
        tensors = load_file(folder / WEIGHTS)
        for name in self._layers:
            a, b = f"{name}.lora_A", f"{name}.lora_B"
            tensors[f"{a}.weight"] = torch.cat([tensors[f"{a}.weight"], self._initial[a]], dim=0)
            tensors[f"{b}.weight"] = torch.cat([tensors[f"{b}.weight"], -self._initial[b]], dim=1)
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        config = json.loads((folder / CONFIG).read_bytes())
        growth = 2**0.5 if config["use_rslora"] else 2
        config |= {"r": 2 * config["r"], "lora_alpha": growth * config["lora_alpha"], "init_lora_weights": True}
        (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True))


def _add(weight: Any, whole: Tensor) -> None:
    """To a weight that is whole, or cut by FSDP2 or ZeRO-3; every rank calls it with the same."""
    if isinstance(weight, DTensor):
        placed = weight.device_mesh, weight.placements
        weight.data += distribute_tensor(whole.to(weight.device, weight.dtype), *placed, src_data_rank=None)
        return
    with _gathered(weight):
        weight.data += whole.to(weight.device, weight.dtype)


def _gathered(weight: Any) -> AbstractContextManager[Any]:
    if not hasattr(weight, "ds_id"):
        return nullcontext()
    import deepspeed

    gathered: AbstractContextManager[Any] = deepspeed.zero.GatheredParameters([weight], modifier_rank=0)
    return gathered


def _product(tensors: dict[str, Tensor], name: str) -> Tensor:
    return tensors[f"{name}.lora_B"] @ tensors[f"{name}.lora_A"]
