"""What the rest of a completion will earn, foretold from what the model's last layer reads at each token."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from finetune_trainer.errors import ConfigurationError

VALUE_HEAD = "value_head"
"""Name of the module in the model: its weights are trained and kept in checkpoints as those of the model are."""


class ValueHead(nn.Module):
    """Begins by expecting nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """(…, width) to (…); in float32, for the errors of values are small."""
        with torch.autocast(hidden.device.type, enabled=False):
            values: Tensor = self.linear(hidden.float())
        return values.squeeze(-1)


def add_value_head(model: Any) -> None:
    """Puts a value head on the model.

    Raises:
        ConfigurationError: The model has no last layer that would tell tokens.
    """
    if _output_layer(model) is None:
        raise ConfigurationError(
            f"training.reinforcement.algorithm: models of the type {model.config.model_type!r} do not say which layer "
            "is their last, so PPO cannot put a value head there; use GRPO or RLOO"
        )
    setattr(model, VALUE_HEAD, ValueHead(model.config.get_text_config().hidden_size))


def remove_value_head(model: Any) -> None:
    """What is exported has none."""
    if hasattr(model, VALUE_HEAD):
        delattr(model, VALUE_HEAD)


def value_head(model: Any) -> ValueHead:
    """Of the model, or of the model in a wrapper such as DistributedDataParallel."""
    head: ValueHead = getattr(getattr(model, "module", model), VALUE_HEAD)
    return head


@contextmanager
def last_hidden(model: Any) -> Iterator[list[Tensor]]:
    """What the last layer reads, (rows, width, features), in calls of the model inside."""
    heard: list[Tensor] = []
    layer = _output_layer(getattr(model, "module", model))
    hook = layer.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0]))
    try:
        yield heard
    finally:
        hook.remove()


def _output_layer(model: Any) -> Any:
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    return base.get_output_embeddings()
