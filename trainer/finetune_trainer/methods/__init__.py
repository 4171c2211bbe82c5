"""Which weights are trained: all of them, or an adapter's."""

from typing import Any

from finetune_api.method import Full, Method
from finetune_trainer.methods.adalora import with_adalora
from finetune_trainer.methods.adaptation import Adaptation
from finetune_trainer.methods.freezing import freeze
from finetune_trainer.methods.ia3 import with_ia3
from finetune_trainer.methods.lora import with_lora, with_qlora
from finetune_trainer.methods.virtual_tokens import with_p_tuning, with_prefix_tuning, with_prompt_tuning
from finetune_trainer.models.load import LoadedModel


def apply_method(loaded: LoadedModel, method: Method, tokenizer: Any, total_steps: int) -> Adaptation:
    """The model with exactly the parameters that are to be trained requiring gradients.

    Raises:
        ConfigurationError: The method does not fit the model or the length of the run.
    """
    if method.lora is not None:
        return with_lora(loaded, method.lora)
    if method.qlora is not None:
        return with_qlora(loaded, method.qlora)
    if method.ia3 is not None:
        return with_ia3(loaded, method.ia3)
    if method.prompt_tuning is not None:
        return with_prompt_tuning(loaded, method.prompt_tuning, tokenizer)
    if method.p_tuning is not None:
        return with_p_tuning(loaded, method.p_tuning)
    if method.prefix_tuning is not None:
        return with_prefix_tuning(loaded, method.prefix_tuning)
    if method.adalora is not None:
        return with_adalora(loaded, method.adalora, total_steps)
    freeze(loaded.model, method.full or Full())
    return Adaptation(loaded.model)


__all__ = ["Adaptation", "apply_method"]
