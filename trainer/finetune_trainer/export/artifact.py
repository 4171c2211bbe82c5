"""Writes the artifact: Hugging Face's layout, finetune.json, the manifest last."""

import importlib.metadata
from pathlib import Path
from typing import Any

import orjson

from finetune_api.artifact import DESCRIPTION_FILE, ArtifactDescription
from finetune_api.manifest import write_manifest


def write_artifact(folder: Path, model: Any, processor: Any, description: ArtifactDescription) -> None:
    """The model and what a server must know. An adapter is saved alone, without its base model."""
    folder.mkdir(parents=True)
    model.save_pretrained(str(folder))
    if processor is not None:
        processor.save_pretrained(str(folder))
    (folder / DESCRIPTION_FILE).write_bytes(orjson.dumps(description.wire(), option=orjson.OPT_INDENT_2))


def seal(folder: Path) -> str:
    """Writes the manifest; returns the artifact's digest."""
    return write_manifest(folder, {"kind": "artifact"})


def package_versions() -> dict[str, str]:
    """Of what decides how the model was trained."""
    packages = ("finetune-operator", "torch", "transformers", "peft", "tokenizers", "safetensors")
    return {name: importlib.metadata.version(name) for name in packages}
