"""AdaLoRA by PEFT, and what PEFT leaves to the training loop: the allocation of rank and its state."""

import math
from typing import Any

import torch
from peft import AdaLoraConfig
from torch import Tensor

from finetune_api.method import AdaLora
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.methods.adaptation import Adaptation
from finetune_trainer.methods.peft_model import adapted, new_modules
from finetune_trainer.methods.target_modules import LINEAR, stores_transposed, target_modules
from finetune_trainer.models.load import LoadedModel

ADAPTER = "default"
SCORES = ("ipt", "exp_avg_ipt", "exp_avg_unc")
"""Importance of each weight, its running mean, and the running mean of its uncertainty."""


def with_adalora(loaded: LoadedModel, adalora: AdaLora, total_steps: int) -> Adaptation:
    """The model with adapters of equal rank.

    Raises:
        ConfigurationError: The run is too short for ranks to fall.
    """
    kinds = (*LINEAR, torch.nn.Conv2d)
    names = target_modules(loaded.model, adalora.target_modules, "method.adalora.targetModules", kinds)
    warmup, final = _steps(adalora.warmup, total_steps), _steps(adalora.final_tuning, total_steps)
    if warmup + final >= total_steps:
        raise ConfigurationError(
            f"method.adalora: warmup ({warmup} steps) and finalTuning ({final}) leave none of the {total_steps} steps "
            "for ranks to fall; lower them, or train longer"
        )
    config = AdaLoraConfig(
        init_r=adalora.initial_rank,
        target_r=adalora.target_rank,
        lora_alpha=adalora.alpha or 2.0 * adalora.initial_rank,  # type: ignore[arg-type]  # PEFT only divides it
        lora_dropout=adalora.dropout,
        tinit=warmup,
        tfinal=final,
        deltaT=adalora.allocate_every_steps,
        total_step=total_steps,
        orth_reg_weight=adalora.orthogonal_regularization,
        target_modules=names,
        modules_to_save=new_modules(loaded),
        task_type=loaded.peft_type,
        fan_in_fan_out=stores_transposed(loaded.model, names),
    )
    model = adapted(loaded, config, "adalora")
    for name, parameter in model.named_parameters():
        if ".ranknum." in name:  # beside a base in bfloat16 PEFT makes a count into a weight, which is never saved
            parameter.requires_grad_(False)
    return AdaLoraAdaptation(model)


def _steps(value: float, total_steps: int) -> int:
    return math.ceil(value * total_steps) if value < 1 else round(value)


class AdaLoraAdaptation(Adaptation):
    """Allocates rank after each step, and keeps singular vectors orthogonal."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self._config = model.peft_config[ADAPTER]
        vectors = [(n, p) for n, p in model.named_parameters() if "lora_A" in n or "lora_B" in n]
        self._vectors = [(parameter, "lora_A" in name) for name, parameter in vectors]

    @property
    def _allocator(self) -> Any:
        return self.model.base_model.rankallocator

    def penalty(self) -> Tensor | None:
        """PEFT adds it to the model's own loss, which we do not use."""
        if not self._config.orth_reg_weight:
            return None
        distances = [_from_orthogonal(p if rows else p.T) for p, rows in self._vectors]
        return self._config.orth_reg_weight * torch.stack(distances).mean()

    def after_step(self, step: int) -> None:
        self.model.base_model.update_and_allocate(step)

    def state(self) -> dict[str, Tensor]:
        scores = {
            f"{kind}/{name}": tensor for kind in SCORES for name, tensor in getattr(self._allocator, kind).items()
        }
        kept = self._config.rank_pattern or {}
        return scores | {f"rank_pattern/{name}": torch.tensor(ranks) for name, ranks in kept.items()}

    def restore(self, saved: dict[str, Tensor]) -> None:
        device = self._vectors[0][0].device
        parts: dict[str, dict[str, Tensor]] = {}
        for key, tensor in saved.items():
            kind, name = key.split("/", 1)
            parts.setdefault(kind, {})[name] = tensor
        for kind in SCORES:
            setattr(self._allocator, kind, {name: t.to(device) for name, t in parts.get(kind, {}).items()})
        kept = parts.get("rank_pattern", {})
        self._config.rank_pattern = {name: tensor.tolist() for name, tensor in kept.items()} or None


def _from_orthogonal(rows: Tensor) -> Tensor:
    """How far the rows are from an orthonormal system."""
    return torch.linalg.norm(rows @ rows.T - torch.eye(len(rows), device=rows.device, dtype=rows.dtype))
