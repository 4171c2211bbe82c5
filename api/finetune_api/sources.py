"""Where models, data and artifacts live: one URI a place."""

import re

from finetune_api.text_forms import text_form

_NAME = r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?"
_CLAIM_OR_BUCKET = rf"pvc://{_NAME}(/[^\s]*)?|s3://[A-Za-z0-9][-A-Za-z0-9._]*(/[^\s/]+)*/?"
_FOLDER = r"file:///[^\s]+"
_CLAIM = re.compile(r"pvc://([^/?#]*)")

SOURCES = (
    "hf://ORG/NAME, s3://BUCKET/KEY, pvc://CLAIM/PATH, file:///PATH in the image, or modelversion://NAME of this "
    "namespace (models only)"
)
STORAGES = "s3://BUCKET/PREFIX or pvc://CLAIM/PATH"

Source = text_form(
    rf"^({_CLAIM_OR_BUCKET}|{_FOLDER}|hf://[^\s/][^\s]*|modelversion://{_NAME})$",
    f"write {SOURCES}",
    1024,
    f"{SOURCES}.",
)
"""Something to read."""

Storage = text_form(
    rf"^({_CLAIM_OR_BUCKET}|{_FOLDER})$",
    f"write {STORAGES}; file:///PATH is for a folder that the pod template mounts",
    1024,
    f"{STORAGES}; the job's name and uid are added to it. file:///PATH is for a folder that the pod template mounts.",
)
"""Somewhere to write that outlives the job's pods."""


def claim_of(uri: str | None) -> str | None:
    """The PersistentVolumeClaim that a `pvc://` URI names, or None for any other URI."""
    found = _CLAIM.match(uri or "")
    return found[1] if found else None
