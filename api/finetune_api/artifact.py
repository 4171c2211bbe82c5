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


class SubtaskDescription(Schema):
    """A head of a multi-task model."""

    model_config = ConfigDict(extra="ignore")

    task: Task
    labels: list[str] | None = None
    """The classes, in the order of the head's outputs."""

    @model_validator(mode="after")
    def complete(self) -> "SubtaskDescription":
        if self.task in LABELLED and not self.labels:
            raise ValueError(f"labels: required for {self.task}; export the model again")
        return self


class ArtifactDescription(Schema):
    """A field of a newer version must not stop an older server, so unknown ones are ignored."""

    model_config = ConfigDict(extra="ignore")

    task: Task
    format: ArtifactFormat = "Full"
    labels: list[str] | None = Field(
        None, description="The classes of a classifier, in the order of the model's outputs."
    )
    subtasks: dict[str, SubtaskDescription] | None = Field(
        None, description="The heads of a multi-task model, by the names that requests choose them by."
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
    windows: bool = Field(
        False,
        description="Longer texts are read in overlapping windows of max_length tokens, as they were in training.",
    )
    versions: dict[str, str] = Field(default_factory=dict)

    @property
    def classes(self) -> list[str]:
        """Those that it answers with; of a multi-task model SUBTASK/CLASS, head after head."""
        of_heads = ((name, label) for name, about in (self.subtasks or {}).items() for label in about.labels or ())
        return self.labels or [f"{name}/{label}" for name, label in of_heads]

    @property
    def heads(self) -> dict[str, dict[str, Any]]:
        """Those of a multi-task model, as it is told of them; {} for models with one."""
        return {name: about.wire() for name, about in (self.subtasks or {}).items()}

    @property
    def outputs(self) -> int | None:
        """How many numbers the model's head gives; None where there is no such head."""
        return 1 if self.task == "RewardModeling" else len(self.labels or ()) or None

    @model_validator(mode="after")
    def complete(self) -> "ArtifactDescription":
        if self.task in LABELLED and not self.labels:
            raise ValueError(f"labels: required for {self.task}; export the model again")
        if self.task == "MultiTask" and not self.subtasks:
            raise ValueError("subtasks: required for MultiTask; export the model again")
        return self
