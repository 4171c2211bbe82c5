"""From a URI to a local folder."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from finetune_api.names import PVC_MOUNT
from finetune_serving.startup import StartupError

MODEL_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.py"]
"""What a model of a hub is loaded from; its other formats are not fetched."""


def local_folder(uri: str, scratch: Path, revision: str | None = None) -> Path:
    """The folder that `uri` names, fetched below `scratch` when it is remote.

    Raises StartupError when it does not exist or cannot be reached.
    """
    parts = urlsplit(uri)
    match parts.scheme:
        case "":
            return _existing(Path(uri), uri)
        case "file":
            return _existing(Path(unquote(parts.path)), uri)
        case "pvc":
            return _existing(Path(PVC_MOUNT, parts.netloc, unquote(parts.path).lstrip("/")), uri)
        case "s3":
            return _fetch_s3(uri, scratch)
        case "hf":
            return _fetch_hub(f"{parts.netloc}{parts.path}".strip("/"), scratch, revision)
    raise StartupError(f"{uri}: unknown scheme {parts.scheme!r}; use pvc, file, s3 or hf, or a folder")


def _existing(path: Path, uri: str) -> Path:
    if not path.is_dir():
        raise StartupError(f"{uri}: no folder at {path}; check the path, and that its volume is mounted")
    return path


def _fetch_s3(uri: str, scratch: Path) -> Path:
    import fsspec

    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    options: dict[str, Any] = {"endpoint_url": endpoint} if endpoint else {}
    key = uri.removeprefix("s3://").strip("/")
    target = scratch / "s3" / key
    try:
        filesystem = fsspec.filesystem("s3", **options)
        if not filesystem.isdir(key):
            raise StartupError(f"{uri}: nothing there; check the bucket and the prefix")
        target.parent.mkdir(parents=True, exist_ok=True)
        filesystem.get(f"{key}/", f"{target}/", recursive=True)
    except ImportError as error:
        raise StartupError(f"{uri}: s3:// needs the package s3fs ({error})") from error
    except Exception as error:
        if isinstance(error, StartupError):
            raise
        raise StartupError(f"{uri}: cannot be read from {endpoint or 'Amazon S3'}: {error}") from error
    return target


def _fetch_hub(repository: str, scratch: Path, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(repository, revision=revision, cache_dir=scratch / "hf", allow_patterns=MODEL_FILES)
    except Exception as error:
        raise StartupError(f"hf://{repository}: cannot be fetched: {error}") from error
    return Path(folder)
