"""Dropout of a pre-trained model's own layers, which its configuration holds under many names."""

from typing import Any

from finetune_trainer.errors import ConfigurationError


def set_dropout(config: Any, dropout: float | None) -> None:
    """Sets every dropout rate of the configuration.

    Raises:
        ConfigurationError: The model has none.
    """
    if dropout is None:
        return
    if not switch_dropout(config, dropout):
        raise ConfigurationError(
            f"training.dropout: models of the type {config.model_type!r} have no dropout; remove it, or set the "
            "method's own"
        )


def switch_dropout(config: Any, dropout: float) -> bool:
    """Sets the rates that there are; False when there are none."""
    parts = [config, config.get_text_config()]
    changed = [(part, name) for part in parts for name in dropout_fields(part)]
    for part, name in changed:
        setattr(part, name, dropout)
    return bool(changed)


def keep_every_layer(config: Any) -> None:
    """A layer that one process leaves out for a step (LayerDrop, as M2M100, DETR and wav2vec2 are published with) has
    no gradient there, for which the others would wait for ever."""
    for part in (config, config.get_text_config()):
        for name in list(vars(part)):
            if name.endswith("layerdrop"):
                setattr(part, name, 0.0)


def dropout_fields(config: Any) -> list[str]:
    """`hidden_dropout_prob`, `resid_pdrop`, `attention_dropout` …, but not the share of layers left out whole."""
    return [
        name
        for name, value in vars(config).items()
        if ("dropout" in name or name.endswith("pdrop"))
        and (value is None or isinstance(value, float | int))
        and not isinstance(value, bool)
    ]
