"""Names that requests and answers share."""

from finetune_serving.errors import RequestError
from finetune_serving.settings import ModelSource

TEXT_INPUT = "text"
"""The input tensor of tasks on one text."""
IMAGE_INPUT = "image"
AUDIO_INPUT = "audio"
FILE_INPUTS = (IMAGE_INPUT, AUDIO_INPUT)
"""Those whose values are files in base64."""


def check_model(source: ModelSource, name: str, version: str | None = None) -> None:
    """404 for any model or version but the one that is served."""
    if name != source.name:
        raise RequestError(404, "model_not_found", f"model {name!r} is not served here; use {source.name!r}")
    if version is not None and version != source.version:
        message = f"version {version!r} is not served here; use {source.version!r}"
        raise RequestError(404, "version_not_found", message)
