"""job.json, read and validated."""

import json
from pathlib import Path

from pydantic import ValidationError

from finetune_api.errors import field_errors
from finetune_api.trainer_config import TrainerConfig
from finetune_trainer.errors import ConfigurationError


def load(path: Path) -> TrainerConfig:
    """The configuration in a file.

    Raises:
        ConfigurationError: It cannot be read, is not JSON, or some fields are wrong: all of them are named.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}; give --config a file of JSON") from error
    try:
        body = json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"{path}: not JSON: {error}") from error
    try:
        return TrainerConfig.model_validate(body)
    except ValidationError as error:
        problems = "\n".join(f"  {problem}" for problem in field_errors(error, TrainerConfig))
        raise ConfigurationError(f"{path}:{_of_another_version(error)}\n{problems}") from error


def _of_another_version(error: ValidationError) -> str:
    """The operator writes no field that its own models do not have, whatever a user has written."""
    if any(one["type"] == "extra_forbidden" for one in error.errors(include_url=False)):
        return " is the operator that wrote it newer than this image of the trainer? Use images of one version:"
    return ""
