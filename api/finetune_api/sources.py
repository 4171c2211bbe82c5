"""Where models, data and artifacts live: one URI a place."""

import re
from typing import Annotated

from pydantic import Field

SOURCE_PATTERN = r"^(hf|s3|file|pvc|modelversion)://[^\s]+$"
STORAGE_PATTERN = r"^(s3|file|pvc)://[^\s]+$"
_CLAIM = re.compile(r"pvc://([^/?#]*)")

Source = Annotated[
    str,
    Field(
        max_length=1024,
        pattern=SOURCE_PATTERN,
        description="hf://ORG/NAME, s3://BUCKET/KEY, pvc://CLAIM/PATH, file:///PATH in the image, "
        "or modelversion://NAME of this namespace (models only).",
    ),
]
"""Something to read."""

Storage = Annotated[
    str,
    Field(
        max_length=1024,
        pattern=STORAGE_PATTERN,
        description="s3://BUCKET/PREFIX or pvc://CLAIM/PATH: it must outlive the job's pods. "
        "file:///PATH is for a folder that the pod template mounts.",
    ),
]
"""Somewhere to write."""


def claim_of(uri: str | None) -> str | None:
    """The PersistentVolumeClaim that a `pvc://` URI names, or None for any other URI."""
    found = _CLAIM.match(uri or "")
    return found[1] if found else None
