"""finetune.json: what an exported model says about itself, read by the server.

The artifact is a folder in Hugging Face's layout (config.json and model.safetensors, or adapter_config.json with
its adapter_model.safetensors, and the tokenizer's files) plus finetune.json, and manifest.json written last.
"""

from typing import Any

from pydantic import ConfigDict, Field, model_validator

from finetune_api.base import Schema
from finetune_api.metrics import Task
from finetune_api.model_reference import ModelReference
from finetune_api.postprocess import ArtifactFormat

DESCRIPTION_FILE = "finetune.json"
LABELLED = frozenset(
    {"TextClassification", "TokenClassification", "ImageClassification", "ObjectDetection", "AudioClassification"}
)
"""Tasks whose answers are classes."""


class ArtifactDescription(Schema):
    """A field of a newer version must not stop an older server, so unknown ones are ignored."""

    model_config = ConfigDict(extra="ignore")

    task: Task
    format: ArtifactFormat = "Full"
    labels: list[str] | None = Field(
        None, description="The classes of a classifier, in the order of the model's outputs."
    )
    base_model: ModelReference | None = Field(None, description="What an adapter was trained on.")
    quantization: dict[str, Any] | None = Field(
        None, description="transformers' quantization_config of the base model that an adapter was trained on."
    )
    max_length: int | None = Field(
        None, ge=1, description="Longest input that it was trained on: tokens, or milliseconds of a recording."
    )
    positions: int | None = Field(
        None, ge=1, description="Longest text in tokens that the model has positions for; None: any length."
    )
    versions: dict[str, str] = Field(default_factory=dict)

    @property
    def outputs(self) -> int | None:
        """How many numbers the model's head gives; None where there is no such head."""
        return 1 if self.task == "RewardModeling" else len(self.labels or ()) or None

    @model_validator(mode="after")
    def complete(self) -> "ArtifactDescription":
        if self.task in LABELLED and not self.labels:
            raise ValueError(f"labels: required for {self.task}; export the model again")
        return self
