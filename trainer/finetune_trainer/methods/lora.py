"""Low-rank adapters by PEFT."""

from typing import Any

from peft import LoraConfig, TaskType, get_peft_model

from finetune_api.method import Lora
from finetune_trainer.methods.target_modules import target_modules
from finetune_trainer.models.load import LoadedModel


def with_lora(loaded: LoadedModel, lora: Lora) -> Any:
    """The model with adapters; modules that start from random weights, such as a new head, are trained whole."""
    classifies = loaded.model.config.problem_type == "single_label_classification"
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha or 2 * lora.rank,  # type: ignore[arg-type]  # PEFT only divides it by the rank
        lora_dropout=lora.dropout,
        target_modules=target_modules(loaded.model, lora.target_modules),
        modules_to_save=loaded.new_modules or None,
        task_type=TaskType.SEQ_CLS if classifies else TaskType.CAUSAL_LM,
    )
    return get_peft_model(loaded.model, config)
