"""Where checkpoints are kept: what a mounted folder and an object store have in common."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from finetune_api.manifest import FileEntry

BEST = "best.json"
"""Record that pins the best checkpoint."""
FENCE = "attempt.json"
"""Record of the newest attempt that took the checkpoints over."""
NAME = re.compile(r"^step-(\d{8,})(?:-(\d+))?$")


class Backend(Protocol):
    """A place that shows a checkpoint either whole or not at all. Everything but `write`-ing is for rank 0."""

    def names(self) -> list[str]:
        """Finished-looking checkpoints, newest first; whether they are sound is another question."""

    def clean(self) -> list[str]:
        """Remove what unfinished saves left behind; returns its names."""

    def begin(self, name: str) -> str:
        """Prepare a save and return its staging name, which every rank is told."""

    def folder(self, staging: str) -> Path:
        """Where this rank writes its files; all ranks."""

    def deliver(self, staging: str, files: list[str]) -> None:
        """Make this rank's files durable; all ranks."""

    def commit(self, staging: str, name: str, files: Mapping[str, FileEntry], manifest: bytes) -> None:
        """Verify every rank's files as they are stored now and show the checkpoint, in one go."""

    def abort(self, staging: str) -> None:
        """Remove an unfinished save."""

    def open(self, name: str) -> tuple[Path, dict[str, Any]]:
        """A local folder with every file verified, and its manifest.

        Raises:
            ManifestError: Something is missing, cut short or changed.
        """

    def local(self, name: str) -> Path:
        """The folder that `open` gave, on this pod."""

    def delete(self, name: str) -> None:
        """Remove a checkpoint; it stops looking finished first."""

    def uri(self, name: str) -> str:
        """The URI of a checkpoint."""

    def read_record(self, name: str) -> bytes | None:
        """The content of a small record beside the checkpoints, or None."""

    def write_record(self, name: str, data: bytes) -> None:
        """Replace a record, in one go."""


def name_of(step: int, taken: list[str], attempt: int = 1) -> str:
    """A name for the checkpoint of a step, with a number at its end: of the attempt, and on from those of this step.

    An attempt that was cut off may still be uploading the same step, of which a bucket shows nothing yet. It must not
    write into, nor clear away, what the attempt after it saves.
    """
    repeats = (match for match in map(NAME.match, taken) if match and int(match[1]) == step)
    number = attempt + max((int(match[2] or 1) for match in repeats), default=0)
    return f"step-{step:08d}" if number == 1 else f"step-{step:08d}-{number}"


def step_of(name: str) -> int:
    """The step in a checkpoint's name."""
    match = NAME.match(name)
    if match is None:
        raise ValueError(f"not the name of a checkpoint: {name!r}")
    return int(match[1])


def newest_first(names: list[str]) -> list[str]:
    """The checkpoints among some names, by step and then by repeat, newest first."""
    matches = [match for match in map(NAME.match, names) if match]
    return [match[0] for match in sorted(matches, key=lambda m: (int(m[1]), int(m[2] or 1)), reverse=True)]


def encode_pin(name: str) -> bytes:
    """The content of the pin of the best checkpoint."""
    return json.dumps({"checkpoint": name}).encode()


def decode_pin(data: bytes | None) -> str | None:
    """The checkpoint that a pin names; a pin that cannot be understood pins nothing."""
    try:
        name = json.loads(data or b"{}").get("checkpoint")
    except (ValueError, AttributeError):
        return None
    return name if isinstance(name, str) and NAME.match(name) else None


def encode_fence(attempt: int) -> bytes:
    """The content of the fence."""
    return json.dumps({"attempt": attempt}).encode()


def decode_fence(data: bytes | None) -> int:
    """The newest attempt that a fence names; without one there was none before the first."""
    try:
        attempt = json.loads(data or b"{}").get("attempt")
    except (ValueError, AttributeError):
        return 1
    return attempt if isinstance(attempt, int) else 1
