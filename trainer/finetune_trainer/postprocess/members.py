"""Other trained models that a job averages its own with: fetched and compared before anything is trained."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import torch
from peft import PeftConfig
from transformers import AutoConfig

from finetune_api.artifact import ArtifactDescription
from finetune_api.averaging import AVERAGED_FORMATS, Average
from finetune_api.trainer_config import TrainerConfig
from finetune_serving.artifact import open_artifact
from finetune_serving.settings import ModelSource
from finetune_serving.startup import StartupError
from finetune_trainer.data.prepare import PreparedData
from finetune_trainer.data.trained_on import TrainedOn
from finetune_trainer.errors import ConfigurationError, of_field
from finetune_trainer.report.files import DATA_REPORT_FILE
from finetune_trainer.run import Run
from finetune_trainer.sources import fetch_artifact
from finetune_trainer.tasks.task import Task

SHOWN = 5
"""Classes in an error."""


@dataclass(frozen=True)
class Member:
    """An artifact on the local disk, to be averaged with the model of this job."""

    path: str
    """The field that names it."""
    uri: str
    folder: Path
    description: ArtifactDescription

    @property
    def trained_on(self) -> TrainedOn | None:
        """What is known of what it has learnt from."""
        return TrainedOn.beside(self.folder, self.path)


def open_members(
    config: TrainerConfig, task: Task, data: PreparedData, processor: Any, model_config: Any, run: Run
) -> list[Member]:
    """All that the job names; rank 0 alone averages, so it alone asks. `model_config` is that of the job's own model.

    Raises:
        ConfigurationError: One is damaged, or is of another task, other classes, another base or other sizes, or held
            out other examples.
    """
    average = config.postprocess[0].average if config.postprocess else None
    if average is None or average.models is None:
        return []
    own = copy.deepcopy(model_config)
    task.configure(own, processor, data.labels)
    members = []
    for number, uri in enumerate(average.models):
        path = f"postprocess[0].average.models[{number}]"
        with of_field(path):
            folder = fetch_artifact(uri, run)
        try:
            description = open_artifact(ModelSource(uri=str(folder), scratch=folder)).description
        except StartupError as error:
            raise ConfigurationError(f"{path}: {error}") from error
        member = Member(path, uri, folder, description)
        difference = _difference(member, config, data.labels) or _other_sizes(member, task, own)
        if difference := difference or _held_out_otherwise(member, data, average):
            raise ConfigurationError(f"{path}: {uri} {difference}")
        members.append(member)
    return members


def _difference(member: Member, config: TrainerConfig, labels: list[str]) -> str | None:
    about, own = member.description, config.model
    if about.format not in AVERAGED_FORMATS:
        return f"has the format {about.format}, which has no weights to average; name what it was made of"
    if about.task != config.task:
        return f"is a model for {about.task}, not {config.task}; remove it"
    if about.classes != labels:
        return f"knows the classes {_named(about.classes)}, and the data has {_named(labels)}; they must be the same"
    base = about.base_model
    if base and (base.source, base.revision) != (own.source, own.revision):
        return (
            f"is an adapter of {base.source}{_at(base.revision)}, and this job trains {own.source}{_at(own.revision)}; "
            "set model to that base, or name versions of this one"
        )
    if about.format == "Adapter" and PeftConfig.from_pretrained(str(member.folder)).is_prompt_learning:
        return "has learnt what is put before texts, which is no part of a weight; remove it"
    return None


def _other_sizes(member: Member, task: Task, model_config: Any) -> str | None:
    """Of a whole model, told by its configuration: nothing is loaded."""
    if member.description.format == "Adapter":
        return None
    own = _sizes(task, model_config)
    other = _sizes(task, AutoConfig.from_pretrained(str(member.folder), local_files_only=True))
    for name in sorted({*own, *other}):
        if own.get(name) != other.get(name):
            return (
                f"is of another architecture: its {name} has the sizes {other.get(name, 'none')}, and that of model "
                f"{own.get(name, 'none')}; name versions that were trained from the same base"
            )
    return None


def _held_out_otherwise(member: Member, data: PreparedData, average: Average) -> str | None:
    """It must not have learnt from what the mean, or the choice of the greedy one, is judged by."""
    file = member.folder / DATA_REPORT_FILE
    theirs = orjson.loads(file.read_bytes()).get("heldOut", {}) if file.is_file() else {}
    judging = {data.held_out[0]} if data.held_out else set()
    for part in sorted(judging | ({"validation"} if average.greedy_by else set())):
        if theirs.get(part) != data.report["heldOut"].get(part):
            return (
                f"held out other examples than the {part} data of this job, and may have learnt from it, which would "
                f"make the mean look better than it is; train both with the same file for dataset.{part}, or the same "
                "dataset.split of the same data, or remove it"
            )
    return None


def _sizes(task: Task, config: Any) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        model = task.model_class.from_config(config)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _named(labels: list[str]) -> str:
    return ", ".join(labels[:SHOWN]) + (f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else "") or "none"


def _at(revision: str | None) -> str:
    return f" at {revision}" if revision else ""
