"""Methods that put learnt tokens before each text, by PEFT: prompt tuning, P-tuning and prefix tuning."""

from typing import Any

import torch
from peft import (
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptEncoderReparameterizationType,
    PromptTuningConfig,
    PromptTuningInit,
)

from finetune_api.method import PrefixTuning, PromptTuning, PTuning
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.methods.adaptation import Adaptation
from finetune_trainer.methods.peft_model import adapted, new_modules
from finetune_trainer.models.load import LoadedModel


def with_prompt_tuning(loaded: LoadedModel, tuning: PromptTuning, tokenizer: Any) -> Adaptation:
    """The model behind learnt input embeddings, which start as those of random tokens or of a text."""
    config = PromptTuningConfig(
        num_virtual_tokens=tuning.virtual_tokens,
        prompt_tuning_init=PromptTuningInit.SAMPLE_VOCAB,
        modules_to_save=new_modules(loaded),
        task_type=loaded.peft_type,
    )
    model = adapted(loaded, config, "promptTuning")
    if tuning.init_text:
        _start_as(model, tokenizer, tuning.init_text)
    return Adaptation(model)


def check_encoder(tuning: PTuning | None, precision: str, device: torch.device) -> None:
    """Raises ConfigurationError for a network that PyTorch has no arithmetic for."""
    if tuning is not None and tuning.encoder == "LSTM" and precision == "Float16" and device.type == "cpu":
        raise ConfigurationError(
            "method.pTuning.encoder: on processors PyTorch has no LSTM in Float16; set encoder to MLP, or "
            "training.precision to BFloat16"
        )


def with_p_tuning(loaded: LoadedModel, tuning: PTuning) -> Adaptation:
    """The model behind input embeddings that a network makes; the artifact holds what it makes, not the network."""
    config = PromptEncoderConfig(
        num_virtual_tokens=tuning.virtual_tokens,
        encoder_reparameterization_type=PromptEncoderReparameterizationType(tuning.encoder),
        encoder_hidden_size=tuning.encoder_hidden_size or _width(loaded.model),
        modules_to_save=new_modules(loaded),
        task_type=loaded.peft_type,
    )
    return Adaptation(adapted(loaded, config, "pTuning"))


def with_prefix_tuning(loaded: LoadedModel, tuning: PrefixTuning) -> Adaptation:
    """The model with learnt keys and values in the cache of each layer."""
    config = PrefixTuningConfig(
        num_virtual_tokens=tuning.virtual_tokens,
        prefix_projection=tuning.projection,
        encoder_hidden_size=tuning.encoder_hidden_size or _width(loaded.model),
        modules_to_save=new_modules(loaded),
        task_type=loaded.peft_type,
    )
    return Adaptation(adapted(loaded, config, "prefixTuning"))


def _width(model: Any) -> int:
    return int(model.config.get_text_config().hidden_size)


def _start_as(model: Any, tokenizer: Any, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if not ids:
        raise ConfigurationError(f"method.promptTuning.initText: {text!r} has no tokens; write a text")
    prompt = model.prompt_encoder["default"].embedding.weight
    repeated = [ids[place % len(ids)] for place in range(len(prompt))]
    with torch.no_grad():
        prompt.copy_(model.word_embeddings(torch.tensor(repeated, device=prompt.device)))
