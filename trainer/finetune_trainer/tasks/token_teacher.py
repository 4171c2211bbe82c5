"""A trained model that says of every token of a batch what it would have written: what a smaller one learns from.

It is asked anew for each batch, so that the distributions of no more than one are in memory: those of a whole dataset
would be a number for every token and every entry of the vocabulary.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from finetune_api.artifact import ArtifactDescription
from finetune_api.manifest import MANIFEST
from finetune_serving.artifact import open_artifact
from finetune_serving.loading import MODEL_CLASSES, load
from finetune_serving.settings import ModelSource
from finetune_serving.startup import StartupError
from finetune_trainer.data.batches import Batch
from finetune_trainer.errors import ConfigurationError, of_field
from finetune_trainer.models.tokenizer import load_tokenizer
from finetune_trainer.run import Run
from finetune_trainer.sources import fetch_teacher

FIELD = "training.distillation.teacher"
INPUTS = ("input_ids", "attention_mask", "position_ids", "decoder_input_ids")
"""Of the model; others tell the student's own kernels how a row is packed."""
SHOWN = 3
"""Tokens in an error."""


class TokenTeacher:
    """On the local disk, until it is loaded."""

    def __init__(self, folder: Path, task: str) -> None:
        self._folder, self._task = folder, task
        self._model: Any = None

    def load(self, device: torch.device) -> None:
        """Whole, in every process, whatever the student is sharded over.

        Raises:
            ConfigurationError: It is damaged, or for another task.
        """
        try:
            model = self._of_artifact() if (self._folder / MANIFEST).exists() else self._pretrained(device)
        except (StartupError, OSError, ValueError) as error:
            raise ConfigurationError(f"{FIELD}: {error}") from error
        self._model = model.to(device).eval().requires_grad_(False)

    def logits(self, batch: Batch) -> Tensor:
        """At the batch's positions alone, (predictions, vocabulary)."""
        inputs = {name: values for name, values in batch.inputs.items() if name in INPUTS}

        def only_positions(_: Any, hidden: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (hidden[0].flatten(0, -2).index_select(0, batch.positions).unsqueeze(0), *hidden[1:])

        hook = self._model.get_output_embeddings().register_forward_pre_hook(only_positions)
        try:
            with torch.no_grad():
                logits: Tensor = self._model(**inputs, use_cache=False).logits
        finally:
            hook.remove()
        return logits.squeeze(0)

    def _of_artifact(self) -> Any:
        source = ModelSource(uri=str(self._folder), scratch=self._folder)
        artifact = open_artifact(source)
        _check(artifact.description, self._task)
        return load(source, artifact).model

    def _pretrained(self, device: torch.device) -> Any:
        kind = torch.float32 if device.type == "cpu" else "auto"
        return MODEL_CLASSES[self._task].from_pretrained(self._folder, dtype=kind, local_files_only=True)


def open_token_teacher(
    teacher: str, revision: str | None, task: str, tokenizer: PreTrainedTokenizerBase, run: Run
) -> TokenTeacher:
    """Fetched once a node, and its vocabulary compared with the student's; nothing is loaded yet.

    Raises:
        ConfigurationError: There is no model, or it has other tokens.
    """
    with of_field(FIELD):
        folder = fetch_teacher(teacher, run, revision)
    if not (folder / "config.json").exists():
        adapter = (folder / "adapter_config.json").exists()
        what = "holds an adapter: merge it into its base first" if adapter else "has no config.json, so it is no model"
        raise ConfigurationError(f"{FIELD}: {teacher} {what}")
    try:
        own = load_tokenizer(folder)
    except ConfigurationError as error:
        raise ConfigurationError(f"{FIELD}: {str(error).removeprefix('model.source: ')}") from error
    _check_vocabulary(own.get_vocab(), tokenizer.get_vocab())
    return TokenTeacher(folder, task)


def _check_vocabulary(teacher: dict[str, int], student: dict[str, int]) -> None:
    others = sorted(token for token in {*teacher, *student} if teacher.get(token) != student.get(token))
    if others:
        raise ConfigurationError(
            f"{FIELD}: has {len(teacher)} tokens and the student {len(student)}, of which {len(others)} differ, such "
            f"as {', '.join(map(repr, others[:SHOWN]))}; what it says of a token would be learnt for another. Take a "
            "teacher of the student's family, or train on texts that it has written"
        )


def _check(about: ArtifactDescription, task: str) -> None:
    if MODEL_CLASSES.get(about.task) is not MODEL_CLASSES[task]:
        raise StartupError(f"is a model for {about.task}, which does not write as {task} does; name another")
    if about.format not in ("Full", "Quantized"):
        raise StartupError(f"has the format {about.format}, which cannot be asked for every token; merge it first")
