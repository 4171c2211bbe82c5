"""What all adapters of PEFT have in common."""

from typing import Any

from peft import PeftConfig, get_peft_model

from finetune_serving.question_answering_adapter import use_own_adapter
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.models.load import LoadedModel


def new_modules(loaded: LoadedModel) -> list[str] | None:
    """Modules that start from random weights, such as a new head, are trained whole. PEFT adds to the list."""
    return list(loaded.new_modules) or None


def adapted(loaded: LoadedModel, config: PeftConfig, method: str) -> Any:
    """The model with the adapter.

    Raises:
        ConfigurationError: PEFT has no such adapter for a layer of this model.
    """
    use_own_adapter()
    try:
        return get_peft_model(loaded.model, config)
    except (ValueError, TypeError, NotImplementedError) as error:
        kind = loaded.model.config.model_type
        raise ConfigurationError(
            f"method.{method} cannot be put on this model ({kind}): {error}; use lora, or name other layers"
        ) from error
