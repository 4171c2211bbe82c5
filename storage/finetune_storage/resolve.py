"""From a URI to the place that it names."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

from finetune_api import names
from finetune_storage.errors import UriError
from finetune_storage.local import LocalStorage
from finetune_storage.location import Storage
from finetune_storage.uri import split_uri

Kind = Literal["model", "dataset"]
ENV_PVC_ROOT = "FINETUNE_PVC_ROOT"
"""Where `pvc://` claims are mounted, instead of `names.PVC_MOUNT`: for running outside a pod."""


def open_storage(
    uri: str,
    revision: str | None = None,
    kind: Kind = "model",
    environment: Mapping[str, str] = os.environ,
) -> Storage:
    """The place that a URI names; nothing is read yet. `revision` and `kind` are for `hf://` only.

    Raises:
        UriError: The URI has a form or a scheme that we do not know.
    """
    parts = split_uri(uri)
    if parts.scheme == "pvc":
        return LocalStorage(uri, claim_path(uri, environment))
    if parts.scheme == "file":
        return LocalStorage(uri, _file_path(uri))
    if parts.scheme == "s3":
        from finetune_storage.s3 import S3Storage

        return S3Storage(uri, environment)
    if parts.scheme == "hf":
        from finetune_storage.hub import HubStorage

        return HubStorage(uri, revision, kind)
    if parts.scheme == "modelversion":
        raise UriError(
            f"{uri}: a ModelVersion is looked up by the operator; outside a cluster give the URI of its artifact"
        )
    raise UriError(
        f"{uri}: unknown scheme {parts.scheme!r}; use hf://ORG/NAME, s3://BUCKET/KEY, pvc://CLAIM/PATH or file:///PATH"
    )


def claim_path(uri: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Where a `pvc://CLAIM/PATH` is in this pod."""
    parts = split_uri(uri)
    relative = Path(unquote(parts.path).lstrip("/"))
    if not parts.netloc or ".." in relative.parts:
        raise UriError(f"{uri}: expected pvc://CLAIM/PATH, with no '..' in PATH")
    return Path(environment.get(ENV_PVC_ROOT) or names.PVC_MOUNT) / parts.netloc / relative


def _file_path(uri: str) -> Path:
    parts = split_uri(uri)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise UriError(f"{uri}: expected file:///ABSOLUTE/PATH, with three slashes")
    return Path(unquote(parts.path))
