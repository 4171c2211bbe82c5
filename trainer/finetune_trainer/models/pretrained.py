"""The model that a job starts from: looked at, found to fit the job, not yet read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from finetune_api.objectives import dropout_refusal
from finetune_api.trainer_config import TrainerConfig
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.models.dropout import keep_every_layer, set_dropout, switch_dropout
from finetune_trainer.models.frozen_precision import FrozenPrecision, frozen_precision
from finetune_trainer.models.load import UNUSED_FROM_PRETRAINING, LoadedModel, load_config, load_model, made_model
from finetune_trainer.models.quantization import check_quantizable, loading_options, quantization_of
from finetune_trainer.models.suitability import check_method, longest_input
from finetune_trainer.tasks.task import Task


@dataclass(frozen=True)
class Pretrained:
    """Its folder, and what its small files say. Weights are read by `load`."""

    folder: Path
    config: Any
    task: Task
    processor: Any
    max_length: int
    """Longest example: what the job asks for, or what the model has room for behind virtual tokens."""
    trust_remote_code: bool
    options: dict[str, Any]
    """Further arguments of `from_pretrained`."""
    frozen: FrozenPrecision

    def load(self, labels: list[str]) -> LoadedModel:
        """The whole model."""
        given = (self.folder, self.config, self.task, labels, self.processor, self.trust_remote_code)
        return load_model(*given, self.options, self.frozen)

    def made(self, labels: list[str], new: list[str]) -> LoadedModel:
        """The same without the weights of the files; `new` are the modules that `load` found new."""
        given = (self.config, self.task, labels, self.processor, self.trust_remote_code)
        return made_model(*given, new, self.frozen)


def open_pretrained(folder: Path, config: TrainerConfig, task: Task, device: torch.device) -> Pretrained:
    """Raises ConfigurationError when the model is not for the job."""
    trust = config.model.trust_remote_code
    model_config = load_config(folder, task, trust)
    check_method(model_config, config.task, config.method)
    keep_every_layer(model_config)
    set_dropout(model_config, config.training.dropout)
    if dropout_refusal(config.task, config.training):
        switch_dropout(model_config, 0.0)
    quantization = quantization_of(config.method.qlora, config.training.precision, task.heads)
    if quantization:
        check_quantizable(model_config, task, trust)
    processor = task.load_processor(folder, trust)
    max_length = _max_length(config, longest_input(model_config, processor))
    options = loading_options(quantization, device)
    frozen = frozen_precision(config.method, config.training.precision, (*task.heads, *UNUSED_FROM_PRETRAINING))
    return Pretrained(folder, model_config, task, processor, max_length, trust, options, frozen)


def _max_length(config: TrainerConfig, positions: int | None) -> int:
    asked_for = config.max_length
    room = (positions or asked_for + config.method.virtual_tokens) - config.method.virtual_tokens
    if room < 2:
        raise ConfigurationError(
            f"method.{config.method.name}.virtualTokens ({config.method.virtual_tokens}) leaves no room for a text in "
            f"the model's {positions} positions; lower it"
        )
    return min(asked_for, room)
