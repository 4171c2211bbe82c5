"""The optimizers, their groups of parameters, and their state as named tensors."""

import importlib.util
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from finetune_api.training import Training
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.models.layers import depths, inside_layers, layer_prefixes
from finetune_trainer.reinforcement.value_head import VALUE_HEAD

Named = dict[str, nn.Parameter]
Group = dict[str, Any]


def trained_parameters(model: nn.Module) -> Named:
    """What the optimizer changes, by name.

    Raises:
        ConfigurationError: Nothing is trained.
    """
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not named:
        raise ConfigurationError("method: no weight of the model is trained")
    return named


def build_optimizer(model: nn.Module, named: Named, training: Training) -> Any:
    """AdamW (arXiv:1711.05101), the same with 8-bit state (arXiv:2110.02861), Adafactor (arXiv:1804.04235) or Muon
    (arXiv:2502.16982). Each group of parameters has, as `scale`, its share of the learning rate.

    Raises:
        ConfigurationError: The optimizer needs a package that is not there.
    """
    scales = learning_rate_scales(model, named, training.layerwise_learning_rate_decay)
    scales |= value_head_scales(named, training)
    rate = training.learning_rate
    if training.optimizer == "Muon":
        hidden = hidden_matrices(model, named)
        return MuonWithAdamW(
            parameter_groups({n: p for n, p in named.items() if n in hidden}, scales, training.weight_decay),
            parameter_groups({n: p for n, p in named.items() if n not in hidden}, scales, training.weight_decay),
            rate,
        )
    groups = parameter_groups(named, scales, training.weight_decay)
    if training.optimizer == "Adafactor":
        return torch.optim.Adafactor(groups, lr=rate)
    if training.optimizer == "AdamW8bit":
        return _eight_bit(groups, rate)
    return torch.optim.AdamW(groups, lr=rate, fused=True)


def parameter_groups(named: Named, scales: dict[str, float], weight_decay: float) -> list[Group]:
    """One group for each share of the learning rate and each weight decay; only matrices are decayed."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in named.items():
        groups[scales[name], weight_decay if is_matrix(parameter) else 0.0].append(parameter)
    return [{"params": members, "scale": scale, "weight_decay": decay} for (scale, decay), members in groups.items()]


def is_matrix(parameter: nn.Parameter) -> bool:
    """Whether small weights are better ones. Biases and normalisation weights, which have one dimension, are not drawn
    to 0, nor are factors such as those of IA³, (n, 1) or (1, n), which do nothing at 1."""
    return sum(size > 1 for size in parameter.shape) >= 2


def learning_rate_scales(model: nn.Module, named: Named, decay: float | None) -> dict[str, float]:
    """1 for the head, `decay` for the highest layer, `decay` squared for the one below, and so on (arXiv:1801.06146).

    Raises:
        ConfigurationError: The model has no layers to tell apart.
    """
    if decay is None:
        return dict.fromkeys(named, 1.0)
    layers = layer_prefixes(model)
    if not layers:
        raise ConfigurationError("training.layerwiseLearningRateDecay: the model has no list of layers; remove it")
    depth = depths(model, layers)
    return {name: decay ** (len(layers) + 1 - depth[name]) for name in named}


def value_head_scales(named: Named, training: Training) -> dict[str, float]:
    """Of the value head of PPO, which may learn faster than the policy."""
    ppo = training.reinforcement.ppo if training.reinforcement else None
    if ppo is None or ppo.head_learning_rate is None:
        return {}
    return {name: ppo.head_learning_rate / training.learning_rate for name in named if name.startswith(VALUE_HEAD)}


def hidden_matrices(model: nn.Module, named: Named) -> set[str]:
    """Names of the two-dimensional weights of the layers: what Muon is for. Embeddings and heads lie outside them."""
    layers = layer_prefixes(model)
    return {name for name, p in named.items() if p.ndim == 2 and inside_layers(name, layers)}


def _eight_bit(groups: list[Group], rate: float) -> Any:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigurationError(
            "training.optimizer AdamW8bit needs bitsandbytes, which this trainer does not have: use an image with "
            "finetune-operator[qlora], or Adafactor"
        )
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit(groups, lr=rate)


class MuonWithAdamW:
    """Muon for hidden matrices and AdamW for all else, as one optimizer: one state, one list of groups.

    Updates of both have the same size (Moonshot's scaling), so one learning rate fits both.
    """

    def __init__(self, hidden: list[Group], others: list[Group], learning_rate: float) -> None:
        if not hidden:
            raise ConfigurationError(
                "training.optimizer Muon is for matrices inside the model's layers, and none is trained; use AdamW"
            )
        self._parts: list[torch.optim.Optimizer] = [
            torch.optim.Muon(hidden, lr=learning_rate, adjust_lr_fn="match_rms_adamw")
        ]
        if others:
            self._parts.append(torch.optim.AdamW(others, lr=learning_rate))
        self.state: defaultdict[Any, Any] = defaultdict(dict)
        for part in self._parts:
            part.state = self.state

    @property
    def param_groups(self) -> list[Group]:
        return [group for part in self._parts for group in part.param_groups]

    def step(self) -> None:
        for part in self._parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self._parts:
            part.zero_grad(set_to_none)


def optimizer_tensors(optimizer: Any, named: Named) -> dict[str, Tensor]:
    """`PARAMETER/exp_avg` and so on; empty before the first step. Plain numbers become tensors of one."""
    return {
        f"{name}/{key}": value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
        for name, parameter in named.items()
        for key, value in optimizer.state.get(parameter, {}).items()
        if value is not None
    }


def restore_optimizer(optimizer: Any, named: Named, saved: Mapping[str, Tensor]) -> None:
    """Puts saved tensors in place of the optimizer's state.

    Raises:
        ValueError: The saved state is of other parameters.
    """
    check_state(named, (key.rsplit("/", 1)[0] for key in saved))
    for key, value in saved.items():
        name, part = key.rsplit("/", 1)
        optimizer.state[named[name]][part] = _in_place(value, part, named[name], optimizer)


def check_state(expected: Iterable[str], saved: Iterable[str]) -> None:
    """A weight without a gradient, such as the mask token of a vision model, or an expert that no token was sent to,
    has no state yet.

    Raises:
        ValueError: There is state of other weights.
    """
    if strangers := set(saved) - set(expected):
        raise ValueError(f"the optimizer state does not fit the model: {sorted(strangers)[:3]}")


def _in_place(value: Tensor, part: str, parameter: nn.Parameter, optimizer: Any) -> Tensor | int:
    """The step count of a fused optimizer lives beside its parameter, that of others on the host, and that of
    bitsandbytes is a plain number."""
    if part != "step":
        return value.to(parameter.device)
    if value.dtype == torch.float64:
        return int(value)
    return value.to(parameter.device) if any(group.get("fused") for group in optimizer.param_groups) else value
