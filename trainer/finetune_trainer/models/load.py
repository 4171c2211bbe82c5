"""A model from its folder, with the head that the task needs."""

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import TaskType
from transformers import AutoConfig

from finetune_trainer.errors import ConfigurationError
from finetune_trainer.models.frozen_precision import IN_FLOAT32, FrozenPrecision
from finetune_trainer.models.suitability import check_suitable
from finetune_trainer.tasks.task import Task

WEIGHT_FILES = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin", "pytorch_model.bin.index.json")
UNUSED_FROM_PRETRAINING = ("pooler",)
"""Modules on the way to a new head that some checkpoints lack; trained with the head."""


@dataclass(frozen=True)
class LoadedModel:
    """A model, and the names of the modules that start from random weights."""

    model: Any
    new_modules: list[str]
    peft_type: TaskType | None
    """PEFT's name of the task."""


def load_config(folder: Path, task: Task, trust_remote_code: bool = False) -> Any:
    """The model's configuration, if the model is one for the task.

    Raises:
        ConfigurationError: No model there, or one that is not for the task.
    """
    if not (folder / "config.json").exists():
        adapter = (
            " It holds an adapter: merge it into its base model first." * (folder / "adapter_config.json").exists()
        )
        raise ConfigurationError(f"model.source: {folder} has no config.json, so it is no model folder.{adapter}")
    try:
        config = AutoConfig.from_pretrained(str(folder), trust_remote_code=trust_remote_code, local_files_only=True)
    except Exception as error:
        raise ConfigurationError(f"model.source: config.json of {folder} cannot be used: {error}") from error
    check_suitable(config, task, trust_remote_code)
    if not any(file for pattern in WEIGHT_FILES for file in folder.glob(pattern)):
        raise ConfigurationError(f"model.source: {folder} has no weights (model.safetensors)")
    return config


def load_model(
    folder: Path,
    config: Any,
    task: Task,
    labels: list[str],
    processor: Any,
    trust_remote_code: bool = False,
    options: Mapping[str, Any] | None = None,
    frozen: FrozenPrecision = IN_FLOAT32,
) -> LoadedModel:
    """Float32 whatever the files hold: weights that are trained in bfloat16 lose most small updates.

    `options` are further arguments of `from_pretrained`, such as how to quantize; `frozen` holds what is not trained.

    Raises:
        ConfigurationError: The files are damaged, or hold weights of another model.
    """
    task.configure(config, processor, labels)
    try:
        with frozen.reading() if not options else nullcontext():
            model, info = task.model_class.from_pretrained(
                str(folder),
                config=config,
                dtype=torch.float32,
                trust_remote_code=trust_remote_code,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=bool(task.heads),
                **(options or {}),
            )
    except Exception as error:
        if isinstance(error, MemoryError | torch.OutOfMemoryError):
            raise
        raise ConfigurationError(f"model.source: the weights in {folder} cannot be loaded: {error}") from error
    missing = sorted({*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])})
    new = new_modules(missing, task.heads, model.base_model_prefix if model.base_model is not model else "")
    if not new and labels and published_labels(folder) != labels:
        new = sorted(name for name in task.heads if any(key.startswith(f"{name}.") for key in model.state_dict()))
    if task.heads and pools_otherwise(folder) and any(name.endswith(".pooler") for name, _ in model.named_modules()):
        new = sorted({*new, "pooler"})
    return LoadedModel(frozen.settle(learn_every_token(model)), new, task.peft_type)


def made_model(
    config: Any,
    task: Task,
    labels: list[str],
    processor: Any,
    trust_remote_code: bool,
    new: list[str],
    frozen: FrozenPrecision,
) -> LoadedModel:
    """The model that `load_model` gives, made of its configuration alone; `new` are the modules that it found new."""
    task.configure(config, processor, labels)
    model = task.model_class.from_config(config, dtype=torch.float32, trust_remote_code=trust_remote_code)
    return LoadedModel(frozen.settle(learn_every_token(model.eval())), new, task.peft_type)


def learn_every_token(model: Any) -> Any:
    """The same model, in which the token that pads is learnt where it stands in a text.

    Many decoders pad with their end-of-text token, which ends each turn of a chat, and embeddings of PyTorch give a
    padding token no gradient. What only pads gets none anyway: no prediction that counts sees it.
    """
    for module in model.modules():
        if type(module) is torch.nn.Embedding and not getattr(model.config, "is_encoder_decoder", False):
            module.padding_idx = None
    return model


def published_labels(folder: Path) -> list[str]:
    """The classes of the head in the files, in its order; [] where config.json names none."""
    named = json.loads((folder / "config.json").read_bytes()).get("id2label") or {}
    return [str(named[place]) for place in sorted(named, key=int)]


def new_modules(missing: list[str], heads: tuple[str, ...], below: str = "") -> list[str]:
    """Modules whose weights are not in the files. Only a head, and a pooler below it, may be new.

    `below` is the name of the part that the head stands on.

    Raises:
        ConfigurationError: Weights of the pre-trained part are missing, or the head has a name that is not known.
    """
    modules: set[str] = set()
    stray = []
    for key in missing:
        first, *rest = key.split(".")
        pooler = next((part for part in rest if part in UNUSED_FROM_PRETRAINING), None)
        if heads and pooler:
            modules.add(pooler)
        elif first in heads:
            modules.add(first)
        else:
            stray.append(key)
    if heads and below and stray and not any(key.startswith(f"{below}.") for key in stray):
        raise ConfigurationError(
            f"model.source: the model has a head ({', '.join(stray[:3])} …) of a kind that cannot be trained here; use "
            "a model of another type, such as BERT, RoBERTa, DeBERTa or ModernBERT"
        )
    if stray:
        raise ConfigurationError(
            f"model.source: the files lack {len(stray)} weights of the model ({', '.join(stray[:3])} …), which would "
            "be random; give the folder of the whole pre-trained model"
        )
    return sorted(modules)


def pools_otherwise(folder: Path) -> bool:
    """Whether this is a sentence-transformers model that averages tokens.

    Its encoder was trained without the pooler that a classification head sits on: the pooler's weights are left over
    from before and fit the encoder no longer, so they are trained with the head.
    """
    pooling = folder / "1_Pooling" / "config.json"
    return pooling.exists() and not json.loads(pooling.read_bytes()).get("pooling_mode_cls_token", False)
