"""Writes the artifact: Hugging Face's layout, finetune.json, the reports, the manifest last."""

import importlib.metadata
from pathlib import Path
from typing import Any

import orjson

from finetune_api.artifact import DESCRIPTION_FILE, ArtifactDescription
from finetune_api.manifest import write_manifest

EVALUATION_FILE = "evaluation.json"
DATA_REPORT_FILE = "data_report.json"


def write_artifact(
    folder: Path, model: Any, processor: Any, description: ArtifactDescription, reports: dict[str, dict[str, Any]]
) -> None:
    """Everything but the manifest. An adapter is saved alone, without its base model."""
    folder.mkdir(parents=True)
    model.save_pretrained(str(folder))
    if processor is not None:
        processor.save_pretrained(str(folder))
    (folder / DESCRIPTION_FILE).write_bytes(_json(description.wire()))
    for name, report in reports.items():
        (folder / name).write_bytes(_json(report))
    # PEFT's model card is an empty form with the path of this pod in it.
    (folder / "README.md").unlink(missing_ok=True)


def seal(folder: Path) -> str:
    """Writes the manifest; returns the artifact's digest."""
    return write_manifest(folder, {"kind": "artifact"})


def package_versions() -> dict[str, str]:
    """Of what decides how the model was trained."""
    packages = ("finetune-operator", "torch", "transformers", "peft", "tokenizers", "safetensors")
    return {name: importlib.metadata.version(name) for name in packages}


def _json(value: dict[str, Any]) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2)
