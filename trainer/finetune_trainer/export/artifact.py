"""Writes the artifact: Hugging Face's layout, finetune.json, the manifest last."""

import importlib.metadata
from pathlib import Path
from typing import Any

import orjson
from transformers import PreTrainedTokenizerBase

from finetune_api.artifact import DESCRIPTION_FILE, ArtifactDescription
from finetune_api.manifest import write_manifest
from finetune_serving.conversation import end_tokens


def write_artifact(folder: Path, model: Any, processor: Any, description: ArtifactDescription) -> None:
    """The model and what a server must know. An adapter is saved alone, without its base model."""
    folder.mkdir(parents=True)
    model.save_pretrained(str(folder))
    if processor is not None:
        processor.save_pretrained(str(folder))
    end_where_learnt(folder, processor)
    (folder / DESCRIPTION_FILE).write_bytes(orjson.dumps(description.wire(), option=orjson.OPT_INDENT_2))


def end_where_learnt(folder: Path, processor: Any) -> None:
    """Lets whatever writes with these files, such as vLLM, stop at the tokens that the model has learnt to end with.

    In the file rather than in the model, which transformers would then refuse to save where the base was published with
    settings that contradict each other, such as a temperature without sampling (Llama 2).
    """
    file = folder / "generation_config.json"
    if not file.exists() or not isinstance(processor, PreTrainedTokenizerBase):
        return
    config = orjson.loads(file.read_bytes())
    known = config.get("eos_token_id")
    before = known if isinstance(known, list) else [known]
    ends = list(dict.fromkeys(end for end in (*before, *end_tokens(processor)) if end is not None))
    config["eos_token_id"] = ends[0] if len(ends) == 1 else ends
    file.write_bytes(orjson.dumps(config, option=orjson.OPT_INDENT_2))


def seal(folder: Path) -> str:
    """Writes the manifest; returns the artifact's digest."""
    return write_manifest(folder, {"kind": "artifact"})


def package_versions() -> dict[str, str]:
    """Of what decides how the model was trained."""
    packages = ("finetune-operator", "torch", "transformers", "peft", "tokenizers", "safetensors")
    return {name: importlib.metadata.version(name) for name in packages}
