"""Whose child an object is: the garbage collector takes it along with the FineTuneJob."""

from typing import Any

from finetune_api.names import API_VERSION


def owner_reference(name: str, uid: str) -> dict[str, Any]:
    """The FineTuneJob as controller."""
    return {
        "apiVersion": API_VERSION,
        "kind": "FineTuneJob",
        "name": name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
