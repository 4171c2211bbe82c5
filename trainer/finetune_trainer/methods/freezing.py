"""Full fine-tuning that leaves some layers as they are."""

from torch import nn

from finetune_api.method import Full
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.models.layers import depths, layer_prefixes


def freeze(model: nn.Module, full: Full) -> None:
    """All parameters but the frozen ones require gradients.

    Raises:
        ConfigurationError: A layer or module that is not there, or nothing is left to train.
    """
    model.requires_grad_(True)
    _freeze_layers(model, full.frozen_layers)
    for module in full.frozen_modules or []:
        _freeze_module(model, module)
    if not any(p.requires_grad for p in model.parameters()):
        raise ConfigurationError("method.full: every weight is frozen; lower frozenLayers or name fewer frozenModules")


def _freeze_layers(model: nn.Module, count: int) -> None:
    if not count:
        return
    layers = layer_prefixes(model)
    if count > len(layers):
        raise ConfigurationError(
            f"method.full.frozenLayers ({count}): the model has {len(layers)} layers; freeze fewer"
        )
    depth = depths(model, layers)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(depth[name] > count)


def _freeze_module(model: nn.Module, wanted: str) -> None:
    found = [m for name, m in model.named_modules() if name == wanted or name.endswith(f".{wanted}")]
    if not found:
        there = ", ".join(sorted({name.rsplit(".", 1)[-1] for name, _ in model.named_modules() if name})[:30])
        raise ConfigurationError(
            f"method.full.frozenModules: the model has no module {wanted!r}; some that it has: {there}"
        )
    for module in found:
        module.requires_grad_(False)
