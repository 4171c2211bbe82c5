"""Low-rank adapters by PEFT."""

from typing import Any

from peft import LoraConfig

from finetune_api.method import Lora, QLora
from finetune_trainer.methods.adaptation import Adaptation
from finetune_trainer.methods.peft_model import adapted, new_modules
from finetune_trainer.methods.pissa import PissaAdaptation
from finetune_trainer.methods.target_modules import LINEAR, stores_transposed, target_modules
from finetune_trainer.models.load import LoadedModel

RSLORA_ALPHA = 16.0
"""As LoRA's default at its default rank; rsLoRA keeps alpha as the rank grows."""


def with_lora(loaded: LoadedModel, lora: Lora) -> Adaptation:
    """The model with adapters."""
    names = target_modules(loaded.model, lora.target_modules, "method.lora.targetModules")
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=_alpha(lora),  # type: ignore[arg-type]  # PEFT only divides it by the rank
        lora_dropout=lora.dropout,
        target_modules=names,
        modules_to_save=new_modules(loaded),
        task_type=loaded.peft_type,
        use_rslora=lora.rslora,
        use_dora=lora.dora,
        init_lora_weights="pissa" if lora.init == "PiSSA" else True,
        fan_in_fan_out=stores_transposed(loaded.model, names),
    )
    model: Any = adapted(loaded, config, "lora")
    return PissaAdaptation(model) if lora.init == "PiSSA" else Adaptation(model)


def with_qlora(loaded: LoadedModel, qlora: QLora) -> Adaptation:
    """Adapters in float32 beside layers that were quantized when the model was loaded."""
    names = target_modules(loaded.model, qlora.target_modules, "method.qlora.targetModules", LINEAR)
    config = LoraConfig(
        r=qlora.rank,
        lora_alpha=qlora.alpha or 2 * qlora.rank,  # type: ignore[arg-type]  # PEFT only divides it by the rank
        lora_dropout=qlora.dropout,
        target_modules=names,
        modules_to_save=new_modules(loaded),
        task_type=loaded.peft_type,
    )
    return Adaptation(adapted(loaded, config, "qlora"))


def _alpha(lora: Lora) -> float:
    return lora.alpha or (RSLORA_ALPHA if lora.rslora else 2.0 * lora.rank)
