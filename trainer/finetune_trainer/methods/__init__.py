"""Which weights are trained: all of them, or an adapter's."""

from typing import Any

from finetune_api.method import Method
from finetune_trainer.methods.lora import with_lora
from finetune_trainer.models.load import LoadedModel


def apply_method(loaded: LoadedModel, method: Method) -> Any:
    """The model with exactly the parameters that are to be trained requiring gradients."""
    if method.lora is not None:
        return with_lora(loaded, method.lora)
    loaded.model.requires_grad_(True)
    return loaded.model


__all__ = ["apply_method"]
