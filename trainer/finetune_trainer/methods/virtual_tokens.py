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
from finetune_api.method_support import refusal
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.methods.adaptation import Adaptation
from finetune_trainer.methods.peft_model import adapted, classifies, new_modules, task_type
from finetune_trainer.models.load import LoadedModel
from finetune_trainer.models.suitability import is_encoder

PREFIXED_ENCODERS = ("bert", "roberta", "xlm-roberta", "camembert", "electra")
"""Encoders whose classifiers PEFT takes apart rightly; of others it leaves out what lies before the last layer."""


def with_prompt_tuning(loaded: LoadedModel, tuning: PromptTuning, tokenizer: Any) -> Adaptation:
    """The model behind learnt input embeddings, which start as those of random tokens or of a text."""
    _can_find_its_last_token(loaded.model, "promptTuning")
    config = PromptTuningConfig(
        num_virtual_tokens=tuning.virtual_tokens,
        prompt_tuning_init=PromptTuningInit.SAMPLE_VOCAB,
        modules_to_save=new_modules(loaded),
        task_type=task_type(loaded.model),
    )
    model = adapted(loaded, config, "promptTuning")
    if tuning.init_text:
        _start_as(model, tokenizer, tuning.init_text)
    return Adaptation(model)


def with_p_tuning(loaded: LoadedModel, tuning: PTuning) -> Adaptation:
    """The model behind input embeddings that a network makes; the artifact holds what it makes, not the network."""
    _can_find_its_last_token(loaded.model, "pTuning")
    config = PromptEncoderConfig(
        num_virtual_tokens=tuning.virtual_tokens,
        encoder_reparameterization_type=PromptEncoderReparameterizationType(tuning.encoder),
        encoder_hidden_size=tuning.encoder_hidden_size or _width(loaded.model),
        modules_to_save=new_modules(loaded),
        task_type=task_type(loaded.model),
    )
    return Adaptation(adapted(loaded, config, "pTuning"))


def with_prefix_tuning(loaded: LoadedModel, tuning: PrefixTuning) -> Adaptation:
    """The model with learnt keys and values in the cache of each layer."""
    kind = loaded.model.config.model_type
    if classifies(loaded.model) and is_encoder(loaded.model.config) and kind not in PREFIXED_ENCODERS:
        raise ConfigurationError(
            f"method.prefixTuning cannot be put on a classifier of the type {kind!r}, only on "
            f"{', '.join(PREFIXED_ENCODERS)} and decoders; use promptTuning or lora"
        )
    config = PrefixTuningConfig(
        num_virtual_tokens=tuning.virtual_tokens,
        prefix_projection=tuning.projection,
        encoder_hidden_size=tuning.encoder_hidden_size or _width(loaded.model),
        modules_to_save=new_modules(loaded),
        task_type=task_type(loaded.model),
    )
    return Adaptation(adapted(loaded, config, "prefixTuning"))


def _can_find_its_last_token(model: Any, method: str) -> None:
    """transformers looks for padding in the token ids, which it does not get with virtual tokens."""
    reason = refusal(method, "TextClassification, decoders")
    if reason and classifies(model) and not is_encoder(model.config):
        raise ConfigurationError(reason)


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
