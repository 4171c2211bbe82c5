"""How images are scaled for a model."""

from pathlib import Path
from typing import Any

from transformers import AutoImageProcessor

from finetune_trainer.errors import ConfigurationError


def load_image_processor(folder: Path, trust_remote_code: bool, **changes: Any) -> Any:
    """Pillow's resizing everywhere: torchvision's gives other pixels, and the server may not have it.

    `changes` take the place of settings in preprocessor_config.json.

    Raises:
        ConfigurationError: There is no usable preprocessor_config.json.
    """
    try:
        return AutoImageProcessor.from_pretrained(
            str(folder), backend="pil", trust_remote_code=trust_remote_code, local_files_only=True, **changes
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ConfigurationError(
            f"model.source: {folder} has no usable preprocessor_config.json, which says how images are scaled: {error}"
        ) from error
