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
        raise ConfigurationError(f"{path}:\n{problems}") from error
