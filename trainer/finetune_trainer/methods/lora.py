"""Low-rank adapters by PEFT."""

from typing import Any

from peft import LoraConfig

from finetune_api.method import Lora, QLora
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.methods.adaptation import Adaptation
from finetune_trainer.methods.peft_model import adapted, new_modules
from finetune_trainer.methods.pissa import PissaAdaptation
from finetune_trainer.methods.target_modules import (
    ADAPTED,
    LINEAR,
    adaptable,
    names_layer,
    stores_transposed,
    target_modules,
)
from finetune_trainer.models.frozen_precision import FUSED_EXPERTS
from finetune_trainer.models.load import LoadedModel

RSLORA_ALPHA = 16.0
"""As LoRA's default at its default rank; rsLoRA keeps alpha as the rank grows."""


PARTS_OF_EXPERTS = ("gate_proj", "up_proj", "down_proj", "w1", "w2", "w3")
"""What experts were before transformers 5 fused them; PEFT knows them by these names still."""


def with_lora(loaded: LoadedModel, lora: Lora) -> Adaptation:
    """The model with adapters."""
    names = _names(loaded.model, lora.target_modules, "method.lora.targetModules", ADAPTED)
    if lora.init == "PiSSA":
        _refuse_split(loaded.model, names)
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
    names = _names(loaded.model, qlora.target_modules, "method.qlora.targetModules", LINEAR)
    config = LoraConfig(
        r=qlora.rank,
        lora_alpha=qlora.alpha or 2 * qlora.rank,  # type: ignore[arg-type]  # PEFT only divides it by the rank
        lora_dropout=qlora.dropout,
        target_modules=names,
        modules_to_save=new_modules(loaded),
        task_type=loaded.peft_type,
    )
    return Adaptation(adapted(loaded, config, "qlora"))


def _names(model: Any, asked_for: list[str] | None, field: str, kinds: tuple[type, ...]) -> list[str]:
    """As `target_modules`, but none that PEFT would take for the experts of a mixture, and no longer for the layer.

    Raises:
        ConfigurationError: One is.
    """
    experts = any(name.endswith(FUSED_EXPERTS) and p.ndim > 2 for name, p in model.named_parameters())
    meant = [name for name in asked_for or () if experts and name.rpartition(".")[2] in PARTS_OF_EXPERTS]
    if meant:
        raise ConfigurationError(
            f"{field}: of a mixture PEFT takes {', '.join(meant)} for the experts, which lie in one tensor a layer, "
            "and leaves the layers of that name alone; name layers of the attention, or leave it out"
        )
    return target_modules(model, asked_for, field, kinds)


def _refuse_split(model: Any, names: list[str]) -> None:
    linear = set(adaptable(model, LINEAR))
    for layer in adaptable(model, ADAPTED):
        if layer not in linear and any(names_layer(name, layer) for name in names):
            kind = type(model.get_submodule(layer)).__name__
            raise ConfigurationError(
                f"method.lora.init: PiSSA splits the matrices of linear layers, and {layer!r} is a {kind}; set init to "
                "Default, or targetModules to linear layers alone"
            )


def _alpha(lora: Lora) -> float:
    return lora.alpha or (RSLORA_ALPHA if lora.rslora else 2.0 * lora.rank)
