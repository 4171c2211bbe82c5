"""Adapters as they are read, and in the weights of their base model, which is how they answer fastest."""

from pathlib import Path
from typing import Any


def read_adapter(base: Any, folder: Path) -> Any:
    """The `PeftModel` in `folder` on its base model."""
    from peft import PeftModel

    from finetune_serving.question_answering_adapter import use_own_adapter

    use_own_adapter()
    return PeftModel.from_pretrained(base, str(folder))


def as_served(adapted: Any, quantized: bool) -> Any:
    """What answers requests, made of a `PeftModel`: the base model with the adapter in its weights, where it can be.

    Virtual tokens have no weights to go to, and a weight of a quantized base would be rounded again.
    """
    if adapted.peft_config["default"].is_prompt_learning or quantized:
        return adapted
    return merged(adapted)


def merged(adapted: Any) -> Any:
    """The base model with the adapter in its weights; `adapted`, a `PeftModel`, is used up.

    Raises:
        ValueError: A weight would not be finite.
    """
    _take_trained_modules(adapted.get_base_model())
    return adapted.merge_and_unload(safe_merge=True)


def _take_trained_modules(model: Any) -> None:
    """Puts modules that were trained whole, such as a new head, in their places.

    PEFT 0.21 does so too, but where the adapter is IA³ it asks each of them for its `weight`, which a head of several
    layers does not have.
    """
    from peft.utils import ModulesToSaveWrapper

    wrapped = {name: module for name, module in model.named_modules() if isinstance(module, ModulesToSaveWrapper)}
    for name, wrapper in wrapped.items():
        trained = wrapper.unload_and_optionally_merge_module(merge=True, safe_merge=True, adapter_names=None)
        model.set_submodule(name, trained)
